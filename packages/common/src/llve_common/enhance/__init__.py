"""Frames of any source through a network, at their own size."""
