"""SGZ: Semantic-Guided Zero-shot enhancement (Zheng and Gupta, WACV 2022)."""

__version__ = "0.1.0"
