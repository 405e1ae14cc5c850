"""Methods: arrays or adapters in, numbers out. They know neither a finding nor pytest."""
