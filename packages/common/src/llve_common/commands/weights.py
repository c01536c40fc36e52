"""The commands ``weights``: inspect, import, export, average, onnx, fetch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llve_common.commands.terminal import Weights, console, progress_bar
from llve_common.config import PUBLISHED
from llve_common.errors import CheckpointError
from llve_common.io.digest import file_digest
from llve_common.paper.about import About
from llve_common.report.tables import plain_table

if TYPE_CHECKING:
    from llve_common.paper.contract import State


def weights_app(paper: About) -> typer.Typer:
    """The command group of a paper."""
    app = typer.Typer(no_args_is_help=True, help="Inspect, convert and export weights files.")

    @app.command()
    def inspect(
        file: Annotated[Path, typer.Argument(help="A weights file or checkpoint.")],
    ) -> None:
        """List a file's weights, whether they fit, and the file's SHA-256."""
        from llve_common.metrics.cost import parameter_count
        from llve_common.paper.contract import Model
        from llve_common.weights import files
        from llve_common.weights.network import fitting_network, used_parameters
        from llve_common.weights.published import weights_file

        whole, file = paper.paper(), weights_file(file, paper)
        state = whole.from_published(files.read_weights(file))
        rows = [
            (key, "x".join(map(str, value.shape)) or "scalar", str(value.dtype).split(".")[-1])
            for key, value in state.items()
        ]
        console.print(plain_table(str(file), ("name", "shape", "type"), rows).rich())
        network = fitting_network(whole, state, file)
        console.print(f"sha256 {file_digest(file)}", soft_wrap=True)
        used, count = used_parameters(Model(whole, network.eval())), parameter_count(network)
        more = "" if used == count else f", and {count - used:,} that only training uses"
        console.print(f"fits {paper.title}: {used:,} parameters{more}", soft_wrap=True)

    @app.command("import")
    def import_(
        source: Annotated[Path, typer.Argument(help="Published weights, or a checkpoint.")],
        target: Annotated[Path, typer.Argument(help="A .safetensors file to write.")],
    ) -> None:
        """Convert published weights to our names, as .safetensors or a torch file."""
        from llve_common.weights import files

        file, state = _fitting(paper, source)
        facts = {"paper": paper.name, "source_sha256": file_digest(file)}
        files.write_weights(target, state, facts)
        console.print(f"wrote {target}", soft_wrap=True)

    @app.command()
    def export(
        source: Annotated[Path, typer.Argument(help="Weights of ours, or a checkpoint.")],
        target: Annotated[Path, typer.Argument(help="A .pt or .pth file to write.")],
    ) -> None:
        """Write weights under the published names, so that the published code loads them."""
        from llve_common.weights import files

        if target.suffix not in files.TORCH_SUFFIXES:
            what = "the published code reads torch files"
            raise CheckpointError(what, where=target, expected=files.TORCH_SUFFIXES)
        files.write_published(target, paper.paper().to_published(_fitting(paper, source)[1]))
        console.print(f"wrote {target}", soft_wrap=True)

    @app.command()
    def average(
        sources: Annotated[
            list[Path],
            typer.Argument(metavar="FILE", help="Of one network, each trained on from another."),
        ],
        output: Annotated[Path, typer.Option("-o", "--output", help="A file to write.")],
    ) -> None:
        """Write the mean of several files' weights (model soups: Wortsman et al., ICML 2022)."""
        from llve_common.weights import files

        states = [_fitting(paper, each) for each in sources]
        mean, digests = files.mean_of(states), " ".join(file_digest(file) for file, _ in states)
        files.write_weights(output, mean, {"paper": paper.name, "mean_of_sha256": digests})
        console.print(f"wrote {output}", soft_wrap=True)

    @app.command()
    def onnx(
        target: Annotated[Path, typer.Argument(help="An .onnx file to write.")],
        weights: Weights = None,
    ) -> None:
        """Write the network as ONNX, and check the file with onnxruntime."""
        import torch

        from llve_common.weights.network import load_model
        from llve_common.weights.onnx import OPSET, export_onnx

        model = load_model(paper.paper(), weights, torch.device("cpu"))
        loaded = model.weights
        assert loaded is not None
        facts = {"weights": loaded.path.name, "weights_sha256": loaded.sha256}
        written = export_onnx(model, target, facts)
        console.print(f"weights: {loaded}", soft_wrap=True)
        console.print(f"wrote {target}: ONNX opset {OPSET}", soft_wrap=True)
        if model.window.multiple > 1:
            console.print(f"pad height and width to multiples of {model.window.multiple}")
        sizes = " and ".join(f"{height}x{width}" for _, height, width in written.sizes)
        checked = f"at {sizes} pixels: largest difference {written.difference:.1e}"
        console.print(f"checked with onnxruntime {checked}", highlight=False, soft_wrap=True)

    add_fetch(app, paper)
    return app


def _fitting(about: About, source: Path) -> tuple[Path, State]:
    """The file that is meant, and its weights under our names, which fit the network."""
    from llve_common.weights import files
    from llve_common.weights.network import fitting_network
    from llve_common.weights.published import weights_file

    paper, file = about.paper(), weights_file(source, about)
    state = paper.from_published(files.read_weights(file))
    fitting_network(paper, state, file)
    return file, state


def add_fetch(app: typer.Typer, paper: About | None) -> None:
    """Add the command ``fetch`` for a paper's published weights; None: for the core's."""

    @app.command()
    def fetch(
        name: Annotated[
            str | None, typer.Argument(help="Of published weights.", show_default="list all")
        ] = None,
    ) -> None:
        """Fetch published weights, or list them; published:NAME then stands for the file."""
        from llve_common.weights import published

        known = published.published_weights(paper)
        if name is None:
            for each in known.values():
                size = None if each.size is None else f"{each.size} bytes"
                facts = filter(None, (each.file, each.of, size, f"licence: {each.licence}"))
                way = f"here: {each.path}" if each.is_here else each.way
                console.print(f"{each.name}: {', '.join(facts)}", soft_wrap=True)
                console.print(f"    {way}", soft_wrap=True)
            if paper is not None:
                console.print(
                    "'llve weights fetch' lists those of shared networks, such as RAFT.",
                    soft_wrap=True,
                )
            return
        with progress_bar("fetching", "bytes") as advance:
            path = published.fetch(published.find_published(paper, name), advance)
        console.print(f"{PUBLISHED}{name} is {path}", soft_wrap=True)
        console.print(f"sha256 {file_digest(path)}", soft_wrap=True)
