"""What the papers' commands share: options, progress, errors, and whole commands."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import rich.progress
import torch
import typer
from rich.console import Console
from rich.logging import RichHandler
from torch import nn
from typer.core import TyperGroup

from llve_common.config import Settings, as_yaml, load_settings
from llve_common.enhance.frames import (
    Enhanced,
    Job,
    enhance_all,
    naming_faults,
    plan_jobs,
)
from llve_common.errors import CheckpointError, ConfigError, MediaError, UserError
from llve_common.evaluate.test import Fit, Pictures, Scores, evaluate, write_scores
from llve_common.io.atomic import write_text
from llve_common.machine.device import choose_device
from llve_common.machine.processes import processes
from llve_common.metrics.cost import parameter_count
from llve_common.metrics.temporal import NamedFlow
from llve_common.paper.configs import find_config, settings_class, shipped_configs
from llve_common.paper.contract import Clip, Paper
from llve_common.paper.published_options import Options
from llve_common.report.page import Section
from llve_common.report.tables import plain_table, score_table, steadiness_table
from llve_common.report.tested import write_test_page
from llve_common.train.trainer import train
from llve_common.weights.files import (
    TORCH_SUFFIXES,
    file_digest,
    load_into,
    read_weights,
    write_weights,
)
from llve_common.weights.network import LoadedWeights, load_network
from llve_common.weights.onnx import export_onnx

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Settings)

console = Console()
_errors = Console(stderr=True)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Settings as section.key=value; 'configs show' lists them.", show_default=False
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config", help="A YAML file, or a name from 'configs list'.", show_default=False
    ),
]
OptionFile = Annotated[
    Path | None,
    typer.Option("-opt", "--opt", help="A published YAML option file.", show_default=False),
]
ClipsPath = Annotated[
    Path | None,
    typer.Option("--data_path", "--data-path", help="The folder that holds GT and input (or LQ)."),
]
Model = Annotated[
    Path | None, typer.Option("--model", help="Weights file.", show_default="the bundled one")
]
SavePath = Annotated[
    Path | None,
    typer.Option("--save_path", "--save-path", help="For the results.", show_default="results"),
]
Resume = Annotated[Path | None, typer.Option("--resume", help="The folder of a run to go on with.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default="auto")]


class Commands(TyperGroup):
    """A command group that prints a user's mistake as one message and exits with 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command line apart, the published launchers' own words first."""
        with _mistakes_as_messages():
            args = _without_launcher(args, str(ctx.info_name))
            self._refuse_option_file(str(ctx.info_name), args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        logging.basicConfig(
            level=logging.INFO, format="%(message)s", handlers=[_terminal_handler()], force=True
        )
        with _mistakes_as_messages():
            return super().invoke(ctx)

    def _refuse_option_file(self, name: str, args: Sequence[str]) -> None:
        """Name ``-opt`` where a command has none, which would be taken for ``-o pt`` or less."""
        command = self.commands.get(args[0]) if args else None
        known = {"-opt"} if command is None else {o for p in command.params for o in p.opts}
        if "-opt" in args and "-opt" not in known:
            raise ConfigError(
                "this command takes no published option file",
                where=f"{name} {args[0]}",
                got="-opt",
                mend=f"'{name} {args[0]} --help' lists what it takes",
            )


@contextmanager
def _mistakes_as_messages() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if processes().first or not error.everywhere:
            _errors.print(
                f"[bold red]error:[/] {rich.markup.escape(str(error))}",
                highlight=False,
                soft_wrap=True,
            )
        raise typer.Exit(1) from None


def _without_launcher(words: list[str], command: str) -> list[str]:
    """The command line without what published launch lines add to it.

    Those are ``python -m torch.distributed.launch --nproc_per_node=8 ... --launcher pytorch``;
    it gives every process a ``--local-rank``. Today torchrun tells all by the environment.

    Raises:
        ConfigError: several processes are asked for, but torchrun did not start them.
    """
    kept, launcher, ranked = [], "none", False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in ("--local_rank", "--local-rank", "--launcher"):
            value = value if equals else next(rest, "")
            launcher = value if name == "--launcher" else launcher
            ranked = ranked or name != "--launcher"
        else:
            kept.append(word)
    if ranked or (launcher != "none" and "LOCAL_RANK" not in os.environ):
        count = processes().count if processes().count > 1 else "<processes>"
        raise ConfigError(
            "several processes are started by torchrun",
            got="--local-rank" if ranked else f"--launcher {launcher}",
            mend=f"torchrun --nproc_per_node={count} --no-python {shlex.join([command, *kept])}",
        )
    return kept


def paper_app(paper: Paper) -> typer.Typer:
    """A paper's command with what every paper has: ``enhance``, ``weights`` and ``configs``."""
    app = typer.Typer(
        cls=Commands, no_args_is_help=True, help=paper.title, pretty_exceptions_enable=False
    )
    app.command("enhance", help="Enhance an image, a video, or a folder of them.")(
        _enhance_command(paper)
    )
    app.add_typer(_weights_app(paper), name="weights")
    app.add_typer(_configs_app(paper), name="configs")
    return app


def run_training(
    paper: Paper,
    procedure: str,
    config: str | None,
    overrides: Sequence[str] | None,
    options: Mapping[str, Any],
    resume: Path | None = None,
    published: Options | None = None,
    fitting: Callable[[Any], Paper] | None = None,
) -> Path:
    """Train from the command line and return the run's folder.

    Args:
        paper: whose procedure.
        procedure: its command name.
        config: a settings file, or the name of a shipped one.
        overrides: ``section.key=value``.
        options: dotted key to value; None values are not given ones.
        resume: the folder of a run to go on with.
        published: a published option file, instead of ``config``.
        fitting: gives the paper that fits the settings, where they change it.

    Raises:
        UserError: as :func:`llve_common.config.load_settings` and the trainer.
    """
    chosen = paper.procedures[procedure]
    if resume is None:
        file = _one_settings_file(paper, config, published)
    else:
        given = [name for name, value in options.items() if value is not None]
        files = [config, "-opt" if published else None]
        file = _settings_to_go_on_with(resume, [*filter(None, files), *(overrides or ()), *given])
    settings = load_settings(
        chosen.settings,
        file,
        overrides or (),
        options,
        base=None if published is None else published.given,
    )
    note = None if published is None else published.note
    with progress_bar("training", "loss {task.fields[note]}") as advance:
        folder = train(
            paper if fitting is None else fitting(settings),
            chosen,
            settings,
            resume=resume,
            watch=lambda done, total, loss: advance(done, total, f"{loss:.5g}"),
            notes=[note] if note else [],
        )
    if processes().first:
        console.print(f"run folder: {folder}", soft_wrap=True)
    return folder


def settings_to_test(
    paper: Paper,
    kind: type[S],
    config: str | None,
    overrides: Sequence[str] | None,
    options: Mapping[str, Any],
    published: Options | None = None,
) -> S:
    """A test's settings from the command line; what has no effect of a published file is logged.

    Args:
        paper: whose test.
        kind: its settings class.
        config: a settings file, or the name of a shipped one.
        overrides: ``section.key=value``.
        options: dotted key to value; None values are not given ones.
        published: a published option file, instead of ``config``.

    Raises:
        ConfigError: as :func:`llve_common.config.load_settings`; or both files are given.
    """
    file = _one_settings_file(paper, config, published)
    if published is None:
        return load_settings(kind, file, overrides or (), options)
    if published.note:
        log.warning("%s", published.note)
    return load_settings(kind, file, overrides or (), options, base=published.given)


def _one_settings_file(paper: Paper, config: str | None, published: Options | None) -> Path | None:
    if published is not None and config is not None:
        raise ConfigError("give --config or -opt, not both", got=config)
    return find_config(paper, config)


def _settings_to_go_on_with(folder: Path, given: Sequence[str]) -> Path:
    if given:
        raise ConfigError(
            "a run that goes on keeps its settings",
            where="--resume",
            got=", ".join(given),
            mend="give --resume alone, or begin a new run",
        )
    file = folder / "settings.yml"
    if not file.is_file():
        raise ConfigError("not a run's folder", where=folder, expected="settings.yml in it")
    return file


def run_test(
    paper: Paper,
    settings: Any,
    clips: Sequence[Clip],
    pictures: Pictures,
    *,
    fit: Fit = "pad",
    folder: Path | None = None,
    inner: bool = False,
    temporal: NamedFlow | None = None,
    with_fsim: bool = False,
    details: Callable[[nn.Module], Sequence[Section]] | None = None,
) -> Scores:
    """Test from the command line: pictures and a page of them, scores, and tables of these.

    Args:
        paper: whose network.
        settings: with ``weights``, ``device``, ``save`` and ``ssim``.
        clips: to test on.
        pictures: see :func:`llve_common.evaluate.test.evaluate`.
        fit: see there.
        folder: for the scores; None: ``settings.save``.
        inner: see there.
        temporal: see there; a second table shows it.
        with_fsim: see there.
        details: what else the page of pictures shows, of the network tested.

    Raises:
        ConfigError: there is neither ground truth nor a picture to write.
        UserError: as :func:`llve_common.evaluate.test.evaluate` and the weights' loading.
    """
    scored = clips[0].targets is not None
    if not scored and pictures.enhanced is None:
        raise ConfigError(
            "there is no ground truth, so there is nothing to score",
            where=clips[0].frames[0].parent.parent,
            mend="give --save-images to write the enhanced frames",
        )
    device = choose_device(settings.device)
    folder = settings.save if folder is None else folder
    network, weights = load_network(paper, settings.weights, device)
    with progress_bar("testing", "frames") as advance:
        scores = evaluate(
            paper,
            network,
            clips,
            device=device,
            pictures=pictures,
            ssim_definition=settings.ssim,
            fit=fit,
            inner=inner,
            temporal=temporal,
            with_fsim=with_fsim,
            watch=advance,
        )
    facts = {
        "paper": paper.name,
        "command": shlex.join([paper.name, *sys.argv[1:]]),
        "weights": str(weights.path),
        "weights_sha256": weights.sha256,
        "ssim": settings.ssim,
        "rounding": paper.rounding,
        **({} if temporal is None else {"warping_error_flow": temporal.name}),
        "torch": str(torch.__version__),
        "device": str(device),
    }
    write_scores(scores, folder, facts)
    console.print(f"weights: {weights}", soft_wrap=True)
    tables = []
    if scored:
        tables.append(score_table(scores, paper.title, ssim_definition=settings.ssim))
    if temporal is not None:
        tables.append(steadiness_table(scores, paper.title))
    for table in tables:
        console.print(table.rich())
    if tables:
        write_text(folder / "summary.md", "\n".join(each.markdown() for each in tables))
    if pictures.enhanced is not None:
        page = folder / "index.html"
        more = () if details is None else details(network)
        title = f"{paper.title}, tested"
        write_test_page(page, title, facts, tables, scores, clips, pictures.enhanced, more)
    seconds = sum(frame.seconds for frame in scores.frames)
    images = f"{len(scores.frames)} images and index.html"
    what = "scores" if pictures.enhanced is None else images
    console.print(
        f"wrote {what} to {folder}; {seconds:.1f} s to enhance {len(scores.frames)} frames",
        soft_wrap=True,
    )
    return scores


def _terminal_handler() -> logging.Handler:
    # A run's folder holds the full log; the terminal has the progress bar and what went amiss.
    handler = RichHandler(console=_errors, show_time=False, show_path=False, markup=False)
    handler.setLevel(logging.WARNING)
    return handler


@contextmanager
def progress_bar(what: str, note: str) -> Iterator[Callable[..., None]]:
    """A bar in the terminal, moved by (done, in all, text of the note)."""
    columns = (
        rich.progress.TextColumn(what),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn(note),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        *columns, console=_errors, disable=not _errors.is_terminal, transient=True
    ) as progress:
        task = progress.add_task(what, total=None, note="")

        def advance(done: int, total: int | None, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield advance


def _enhance_command(paper: Paper) -> Callable[..., None]:
    def enhance(
        source: Annotated[
            Path, typer.Argument(help="An image, a video, or a folder of images or videos.")
        ],
        output: Annotated[
            Path | None,
            typer.Option(
                "-o", "--output", help="A file or folder.", show_default="<name>-enhanced"
            ),
        ] = None,
        weights: Annotated[
            Path | None, typer.Option(help="A weights file.", show_default="the bundled one")
        ] = None,
        device: Device = None,
    ) -> None:
        me = processes()
        jobs = plan_jobs(paper, source, output)
        naming_faults(jobs)
        chosen = choose_device(device or "auto")
        network, loaded = load_network(paper, weights, chosen)
        # Under torchrun each process takes its share; they have nothing to say to one another.
        mine = jobs[me.rank :: me.count]
        what = "frames" if len(mine) == 1 else "files"
        with progress_bar("enhancing", f"{what} {{task.fields[note]}}") as advance:
            result = enhance_all(
                paper, network, mine, device=chosen, watch=_speedometer(advance, what)
            )
        _report_enhanced(result, mine, loaded)

    return enhance


def _speedometer(advance: Callable[..., None], what: str) -> Callable[[int, int | None], None]:
    started = time.monotonic()

    def watch(done: int, total: int | None) -> None:
        rate = done / max(time.monotonic() - started, 1e-9)
        advance(done, total, f"{rate:.1f} {what}/s")

    return watch


def _report_enhanced(result: Enhanced, jobs: Sequence[Job], weights: LoadedWeights) -> None:
    if len(jobs) == 1 and result.failures:
        raise UserError(result.failures[0])
    console.print(f"weights: {weights}", soft_wrap=True)
    if jobs:
        target = jobs[0][1]
        where = target if len(jobs) == 1 else target.parent
        frames = f"{result.frames} {'frame' if result.frames == 1 else 'frames'}"
        rate = result.frames / max(result.seconds, 1e-9)
        console.print(
            f"enhanced {frames} in {result.seconds:.1f} s ({rate:.1f} a second): {where}",
            soft_wrap=True,
        )
    if result.failures:
        raise MediaError(
            f"{len(result.failures)} of {len(jobs)} files could not be enhanced; "
            "the others are written",
            got="".join(f"\n- {failure}" for failure in result.failures),
        )


def _weights_app(paper: Paper) -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, help="Look into weights files and convert them.")

    @app.command()
    def inspect(
        file: Annotated[Path, typer.Argument(help="A weights file or checkpoint.")],
    ) -> None:
        """List a file's weights, whether they fit, and the file's SHA-256."""
        state = paper.from_published(read_weights(file))
        network = paper.network(state)
        rows = [
            (key, "x".join(map(str, value.shape)) or "scalar", str(value.dtype).split(".")[-1])
            for key, value in state.items()
        ]
        console.print(plain_table(str(file), ("name", "shape", "type"), rows).rich())
        load_into(network, state, file)
        console.print(f"sha256 {file_digest(file)}", soft_wrap=True)
        console.print(f"fits {paper.title}: {parameter_count(network):,} parameters")

    @app.command("import")
    def import_(
        source: Annotated[Path, typer.Argument(help="Published weights, or a checkpoint.")],
        target: Annotated[Path, typer.Argument(help="A .safetensors file to write.")],
    ) -> None:
        """Convert published weights to our names, as .safetensors or a torch file."""
        state = _fitting(paper, source)
        write_weights(target, state, {"paper": paper.name, "source_sha256": file_digest(source)})
        console.print(f"wrote {target}", soft_wrap=True)

    @app.command()
    def export(
        source: Annotated[Path, typer.Argument(help="Weights of ours, or a checkpoint.")],
        target: Annotated[Path, typer.Argument(help="A .pt or .pth file to write.")],
    ) -> None:
        """Write weights under the published names, so that the published code loads them."""
        if target.suffix not in TORCH_SUFFIXES:
            raise CheckpointError(
                "the published code reads torch files", where=target, expected=TORCH_SUFFIXES
            )
        write_weights(target, paper.to_published(_fitting(paper, source)))
        console.print(f"wrote {target}", soft_wrap=True)

    app.command("onnx")(_onnx_command(paper))
    return app


def _onnx_command(paper: Paper) -> Callable[..., None]:
    def onnx(
        target: Annotated[Path, typer.Argument(help="An .onnx file to write.")],
        weights: Annotated[
            Path | None, typer.Option(help="A weights file.", show_default="the bundled one")
        ] = None,
    ) -> None:
        """Write the network as ONNX, and check the file with onnxruntime."""
        network, loaded = load_network(paper, weights, torch.device("cpu"))
        facts = {"weights": loaded.path.name, "weights_sha256": loaded.sha256}
        written = export_onnx(paper, network, target, facts)
        console.print(f"weights: {loaded}", soft_wrap=True)
        console.print(f"wrote {target}: ONNX opset {written.opset}", soft_wrap=True)
        if written.multiple > 1:
            console.print(f"pad height and width to multiples of {written.multiple}")
        sizes = " and ".join(f"{height}x{width}" for _, height, width in written.sizes)
        console.print(
            f"checked with onnxruntime at {sizes} pixels: "
            f"largest difference {written.difference:.1e}",
            highlight=False,
            soft_wrap=True,
        )

    return onnx


def _fitting(paper: Paper, source: Path) -> dict[str, torch.Tensor]:
    state = paper.from_published(read_weights(source))
    load_into(paper.network(state), state, source)
    return state


def _configs_app(paper: Paper) -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, help="Settings files: list, show, copy, check.")

    @app.command("list")
    def list_() -> None:
        """List the settings that come with the package."""
        for name, file in shipped_configs(paper).items():
            head = file.read_text(encoding="utf-8").splitlines()[0]
            console.print(f"{name:24} {head.removeprefix('# ')}", highlight=False, soft_wrap=True)

    @app.command()
    def show(name: Annotated[str, typer.Argument(help="A name from 'configs list'.")]) -> None:
        """Print a settings file with every setting at its value."""
        file = find_config(paper, name)
        assert file is not None
        settings = load_settings(settings_class(paper, file), file)
        console.print(as_yaml(settings), highlight=False, soft_wrap=True, markup=False)

    @app.command()
    def copy(
        name: Annotated[str, typer.Argument(help="A name from 'configs list'.")],
        target: Annotated[Path, typer.Argument(help="A file to write; it may not exist.")],
    ) -> None:
        """Copy a settings file, to change it."""
        file = find_config(paper, name)
        assert file is not None
        if target.exists():
            raise ConfigError("exists already", where=target, mend="give another name")
        write_text(target, file.read_text(encoding="utf-8"))
        console.print(f"wrote {target}", soft_wrap=True)

    @app.command()
    def check(file: Annotated[Path, typer.Argument(help="A settings file of yours.")]) -> None:
        """Check a settings file and list everything that is wrong with it."""
        load_settings(settings_class(paper, file), file)
        console.print(f"{file}: every setting is known and in range", soft_wrap=True)

    return app
