"""How good a result is, and what it cost."""
