"""SGZ: Semantic-Guided Zero-shot enhancement (Zheng and Gupta, WACV 2022)."""

from llve_common import program

__version__ = "0.1.0"
main = program("llve_sgz", "sgz")
