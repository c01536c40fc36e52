"""The published weights' key names, both ways.

The published network registers its repeated, shared blocks under several names: ``enhance.conv``
is also ``enhance.blocks.0``; ``calibrate.convs`` is also ``calibrate.blocks.0``, ``1`` and ``2``.
Where the entries of a file differ, the published code ends up with the last that it loads.
"""

from collections.abc import Mapping
from typing import Any

# Our prefix: the published aliases in the order in which they are loaded.
_ALIASES = {
    "enhance.conv.": ("enhance.blocks.0.",),
    "calibrate.convs.": ("calibrate.blocks.0.", "calibrate.blocks.1.", "calibrate.blocks.2."),
}


def to_published(state: Mapping[str, Any]) -> dict[str, Any]:
    """Our weights under the published names, aliases included."""
    published = dict(state)
    for ours, aliases in _ALIASES.items():
        for key, value in state.items():
            if key.startswith(ours):
                published.update({alias + key.removeprefix(ours): value for alias in aliases})
    return published


def from_published(state: Mapping[str, Any]) -> dict[str, Any]:
    """Published weights under our names; weights under our names pass unchanged."""
    ours = {key: value for key, value in state.items() if ".blocks." not in key}
    for prefix, aliases in _ALIASES.items():
        for alias in aliases:
            for key, value in state.items():
                if key.startswith(alias):
                    ours[prefix + key.removeprefix(alias)] = value
    return ours
