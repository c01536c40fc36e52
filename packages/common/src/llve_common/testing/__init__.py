"""What the packages' tests share: reference values, weight recipes, the conformance suite."""
