"""What the shapes of published weights, whose names are ours, tell of their network."""

from typing import Any

from llve_common.paper.contract import State


def network_arguments(state: State) -> dict[str, Any]:
    """What :class:`llve_sdsd.network.RetinexNet` was built with, from weights under our names.

    The centre frame leaves no trace in the weights. Where a weight is missing, its default stands,
    and loading the weights will name it.
    """
    found: dict[str, Any] = {
        "front_blocks": _blocks(state, "feature_extraction"),
        "back_blocks": _blocks(state, "recon_trunk"),
    }
    first = state.get("conv_first_1.weight")
    if first is not None:
        found["nf"] = first.shape[0]
    last = state.get("HRconv.weight")
    if last is not None:
        found["last_features"] = last.shape[0]
    offsets = state.get("pcd_align.L1_dcnpack.conv_offset_mask.bias")
    if offsets is not None:
        # An offset of two numbers and a mask for each of nine taps.
        found["groups"] = offsets.shape[0] // 27
    plain = state.get("tsa_fusion.weight")
    merging = state.get("tsa_fusion.fea_fusion.weight", plain)
    found["attention"] = plain is None
    if merging is not None:
        found["nframes"] = merging.shape[1] // merging.shape[0]
    return found


def _blocks(state: State, trunk: str) -> int:
    return sum(key.startswith(f"{trunk}.") and key.endswith(".conv1.weight") for key in state)
