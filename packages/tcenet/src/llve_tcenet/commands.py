"""The command that TCE-Net alone has, ``simulate``, and the published ``--mode``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from llve_common.commands.terminal import Commands, console, progress_bar


class PublishedCommands(Commands):
    """Reads ``--mode train ...`` as ``train ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the mode in the place of the command."""
        if "--mode" in args[:-1]:
            place = args.index("--mode")
            args = [args[place + 1], *args[:place], *args[place + 2 :]]
        return super().parse_args(ctx, args)


def simulate(
    source: Annotated[Path, typer.Argument(help="A video, or a folder of videos or frames.")],
    out: Annotated[Path, typer.Argument(help="The set's folder; an interrupted one continues.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of parameters and noise.")] = 0,
) -> None:
    """Make a paired set in DS-LOL's layout by simulated low light; the ranges are llve's own."""
    from llve_common.clips.folders import named
    from llve_common.clips.frames import sources_in
    from llve_common.machine.locks import alone_in
    from llve_tcenet.simulate import clip_names, simulate_clip, write_list

    source = named(source)
    names, counts = clip_names(sources_in(source, clips=True, but=out), source), {}
    with alone_in(out):
        with progress_bar("simulating", "clips") as advance:
            for name, path in names.items():
                counts[name] = simulate_clip(path, name, out, seed)
                advance(len(counts), len(names))
        write_list(out, counts)
    console.print(f"{len(counts)} clips, {sum(counts.values())} frames: {out}", soft_wrap=True)
