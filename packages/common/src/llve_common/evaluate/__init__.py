"""Scores: a paper on its test data, or papers side by side."""
