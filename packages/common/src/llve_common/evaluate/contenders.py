"""What a comparison compares: clips, and papers with their weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

from llve_common.clips.clip import Clip, clip_files
from llve_common.clips.folders import match_by_name, named
from llve_common.clips.frames import sources_in
from llve_common.config import PUBLISHED
from llve_common.data.sdsd.layout import is_set, set_clips
from llve_common.errors import CheckpointError, ConfigError
from llve_common.paper.contract import Paper
from llve_common.weights.published import ways_to_weights


@dataclass(frozen=True)
class Contender:
    """A paper with the weights it is to be shown with; None: the bundled ones."""

    name: str
    entry: EntryPoint
    weights: Path | None = None


def find_clips(source: Path, reference: Path | None, *, clips: bool) -> list[Clip]:
    """What is compared: a file, the images and videos in a folder and its subfolders, or a set.

    Args:
        source: an image, a video, or a folder; without a reference also a data set in SDSD's or
            SMID's layout, whose ground truth is then the reference.
        reference: the same in normal light; in folders matched by name without suffix.
        clips: a folder's images are the frames of a clip, not images by themselves.

    Raises:
        DataError: a folder holds nothing, or names do not match.
        MediaError: there is no such file or folder.
    """
    source = named(source)
    if reference is None and is_set(source):
        return set_clips(source)
    sources = sources_in(source, clips=clips)
    alone = sources == [source]
    targets: Sequence[Path | None] = [reference] * len(sources)
    if reference is not None and not alone:
        targets = [path for _, path in match_by_name(sources, sources_in(reference, clips=clips))]
    root = source.parent if alone else source
    return [
        Clip(
            path.relative_to(root).as_posix(),
            tuple(clip_files(path)),
            None if target is None else tuple(clip_files(target)),
        )
        for path, target in zip(sources, targets, strict=True)
    ]


def find_contenders(
    papers: Mapping[str, EntryPoint], weights: Mapping[str, Sequence[Path]]
) -> list[Contender]:
    """Each paper with its bundled weights, or once with each weights file that is given for it.

    Raises:
        ConfigError: weights for a paper that does not take part, or two files of one name.
    """
    strangers = weights.keys() - papers.keys()
    if strangers:
        raise ConfigError(
            "weights for a paper that does not take part",
            where="--weights",
            got=", ".join(sorted(strangers)),
            expected=", ".join(papers),
        )
    found = []
    for name, entry in papers.items():
        files: Sequence[Path | None] = weights.get(name) or [None]
        stems = [file.stem.removeprefix(PUBLISHED) for file in files if file]
        labels = [name] if len(files) == 1 else [f"{name}-{stem}" for stem in stems]
        if len(set(labels)) < len(labels):
            raise ConfigError(
                "two weights files of one name", where="--weights", got=", ".join(labels)
            )
        found += [Contender(label, entry, file) for label, file in zip(labels, files, strict=True)]
    return found


class NoWeightsError(CheckpointError):
    """A paper without weights, which is no fault of what is compared."""


def require_weights(paper: Paper, contender: Contender) -> None:
    """Refuse to show random weights.

    Raises:
        NoWeightsError: neither the package nor the user brings any.
    """
    if paper.bundled is None and contender.weights is None:
        raise NoWeightsError(
            "no weights come with this package, and random ones are never shown",
            mend=f"--weights {paper.name}=FILE: {ways_to_weights(paper)}",
        )
