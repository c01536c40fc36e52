"""Training, testing and enhancing, the same for every paper."""
