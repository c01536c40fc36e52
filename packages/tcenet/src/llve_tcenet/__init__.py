"""TCE-Net: Temporally Consistent Enhancer of low-light video (Zhu et al., IJCV 2024)."""

from llve_common import program

__version__ = "0.1.0"
main = program("llve_tcenet", "tcenet")
