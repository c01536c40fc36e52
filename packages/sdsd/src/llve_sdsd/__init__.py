"""SDSD: Seeing Dynamic Scene in the Dark (Wang et al., ICCV 2021)."""

__version__ = "0.1.0"
