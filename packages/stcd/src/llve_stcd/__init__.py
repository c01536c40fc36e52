"""STCD: Spatial-Temporal Consistent Decomposition (Xu et al., IJCAI 2025)."""

__version__ = "0.1.0"
