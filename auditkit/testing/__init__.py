"""What authors of adapters and suites import in their own tests: the conformance kit and Hypothesis strategies."""
