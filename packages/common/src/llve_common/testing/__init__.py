"""What the packages' tests share: reference values, the conformance suite."""
