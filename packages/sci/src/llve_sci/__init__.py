"""SCI: Self-Calibrated Illumination (Ma et al., CVPR 2022)."""

from llve_common import program

__version__ = "0.1.0"
main = program("llve_sci", "sci")
