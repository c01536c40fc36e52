"""One training loop for every paper, with exact resume."""
