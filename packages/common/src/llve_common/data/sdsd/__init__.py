"""SDSD's data sets: layout, splits, settings."""
