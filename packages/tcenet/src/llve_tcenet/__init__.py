"""TCE-Net: Temporally Consistent Enhancer of low-light video (Zhu et al., IJCV 2024)."""

__version__ = "0.1.0"
