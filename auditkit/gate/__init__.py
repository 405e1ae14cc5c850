"""What a release may depend on: thresholds, waivers, calibration, changes since a baseline, and merged shards."""
