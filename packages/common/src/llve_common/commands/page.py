"""The command ``page`` of papers whose networks run in a browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from llve_common.commands.terminal import Weights, console
from llve_common.paper.about import About


def page_command(paper: About) -> Callable[..., None]:
    """The command of a paper."""

    def page(
        output: Annotated[
            Path, typer.Option("-o", "--output", help="The .html file to write.")
        ] = Path(f"{paper.name}.html"),
        weights: Weights = None,
    ) -> None:
        """Write a page that enhances in the browser: photographs, videos, the camera."""
        import torch

        from llve_common.report.browser import write_browser_page
        from llve_common.weights.network import load_model

        model = load_model(paper.paper(), weights, torch.device("cpu"))
        write_browser_page(output, model)
        console.print(f"weights: {model.weights}", soft_wrap=True)
        console.print(f"wrote {output}, which needs nothing beside it", soft_wrap=True)

    return page
