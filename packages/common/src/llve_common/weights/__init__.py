"""Weights files, in and out, and the networks that they fit."""
