"""A page that enhances: a paper's network in a browser, by WebGL2."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from llve_common.errors import ConfigError
from llve_common.io.atomic import write_text
from llve_common.machine.folders import shown_text
from llve_common.paper.contract import Model, Pass
from llve_common.report.page import environment


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
    style, script = _template("base.css") + _template("browser.css"), _template("browser.js")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "media-src blob: mediastream:; base-uri 'none'; form-action 'none'"
    )
    page = environment().get_template("browser.html.jinja").render(
        title=f"{paper.title}, in the browser", weights=shown_text(str(model.weights)),
        policy=policy, style=style, script=script, passes=_embedded(passes),
        glsl=_embedded({name: _template(f"{name}.glsl") for name in ("common", "show")}),
    )  # fmt: skip
    write_text(path, page)


def _template(name: str) -> str:
    return (files("llve_common.report") / "templates" / name).read_text(encoding="utf-8")


def _in_json(each: Pass) -> dict[str, Any]:
    values = b"" if each.weights is None else each.weights.detach().numpy().astype("<f4").tobytes()
    facts = {item.name: getattr(each, item.name) for item in dataclasses.fields(each)}
    return facts | {"weights": base64.b64encode(values).decode("ascii")}


def _embedded(value: Any) -> str:
    """JSON for a script element, which no text in it can end."""
    return json.dumps(value).replace("<", "\\u003c")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
