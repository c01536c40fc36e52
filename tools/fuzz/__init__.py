"""Files and words that nobody should give, and what becomes of them: see ``__main__``."""
