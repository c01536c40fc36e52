"""RAFT: optical flow by a network, under its authors' layer names.

Teed, Deng, *RAFT: Recurrent All-Pairs Field Transforms for Optical Flow*, ECCV 2020. Section and
equation numbers are the paper's. Flow is in pixels, (x, y).
"""

from llve_common.flow.raft.correlation import correlation_pyramid, look_up
from llve_common.flow.raft.estimate import raft_flow, raft_frame_flow
from llve_common.flow.raft.network import Raft, RaftFlow
from llve_common.flow.raft.update import convex_upsample

__all__ = [
    "Raft", "RaftFlow", "convex_upsample", "correlation_pyramid", "look_up",
    "raft_flow", "raft_frame_flow",
]  # fmt: skip
