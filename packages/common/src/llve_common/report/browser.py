"""A page that enhances: a paper's network in a browser, by WebGL2."""

import base64
import dataclasses
from pathlib import Path
from typing import Any

from llve_common.errors import ConfigError
from llve_common.io.atomic import write_text
from llve_common.machine.folders import shown_text
from llve_common.paper.contract import Model, Pass
from llve_common.report.page import render, template_text


def write_browser_page(path: Path, model: Model) -> None:
    """Write one HTML file that enhances photographs, videos and a camera's picture by itself.

    Its content security policy forbids every request.

    Raises:
        ConfigError: the paper has no shaders, or none for this network.
        MediaError: the file cannot be written.
    """
    paper = model.paper
    if paper.shaders is None:
        raise ConfigError("this paper has no shaders for a browser", where=paper.name)
    passes = [_in_json(each) for each in paper.shaders(model.network)]
    page = render(
        "browser", "media-src blob: mediastream:",
        title=paper.title, weights=shown_text(str(model.weights)),
        passes=passes,
        glsl={name: template_text(f"{name}.glsl") for name in ("common", "show")},
    )  # fmt: skip
    write_text(path, page)


def _in_json(each: Pass) -> dict[str, Any]:
    values = b"" if each.weights is None else each.weights.detach().numpy().astype("<f4").tobytes()
    facts = {item.name: getattr(each, item.name) for item in dataclasses.fields(each)}
    return facts | {"weights": base64.b64encode(values).decode("ascii")}
