"""Operators that PyTorch lacks."""
