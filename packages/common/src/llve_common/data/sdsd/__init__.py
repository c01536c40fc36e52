"""SDSD's data sets: layout, splits, settings, windows, and what is wrong with a set."""
