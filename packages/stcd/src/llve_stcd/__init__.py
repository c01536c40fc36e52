"""STCD: Spatial-Temporal Consistent Decomposition (Xu et al., IJCAI 2025)."""

from llve_common import program

__version__ = "0.1.0"
main = program("llve_stcd", "stcd")
