"""The shared core of llve: everything that is not particular to one paper."""

__version__ = "0.1.0"
