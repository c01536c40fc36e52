"""SDSD: Seeing Dynamic Scene in the Dark (Wang et al., ICCV 2021)."""

from llve_common import program

__version__ = "0.1.0"
main = program("llve_sdsd", "sdsd")
