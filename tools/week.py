"""A stranger's first week: what docs/your-own-pairs.md says, typed in order, on pairs of images.

    python tools/week.py PAIRS OUT [--few]

``PAIRS`` holds ``low`` and ``high``; every fifth pair is for the test. ``OUT`` is a new folder, in
which the commands run. ``--few`` bounds each training to some updates. It ends with 1 where a
command does, or where a run left no best weights.
"""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "your-own-pairs.md"
FEW = {
    "sci train": ["train.epochs=2"],
    "sgz train": ["train.epochs=2"],
    "sdsd train": ["train.iterations=6", "train.validate_every=3"],
    "stcd train": ["train.iterations=6", "train.validate_every=3"],
    "tcenet train": ["train.epochs=2", "train.repeat=1"],
}
"""What bounds a training, appended to its command."""


def page_lines() -> list[str]:
    """The commands of the page, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return "".join(blocks).splitlines()


def bounded(command: str) -> list[str]:
    """The words of a command, of a training with few updates; a resumed one makes a few more."""
    words = shlex.split(command)
    few = FEW.get(" ".join(words[:2]), [])
    if "--resume" in words:
        name, count = few[0].split("=")
        return [*words[:-1], f"{name}={int(count) + 1}"]
    return [*words, *few]


def divide(pairs: Path, folder: Path) -> None:
    """Link pairs as a set in two parts."""
    for side in ("low", "high"):
        for number, file in enumerate(sorted((pairs / side).iterdir())):
            place = folder / ("train" if number % 5 else "test") / side
            place.mkdir(parents=True, exist_ok=True)
            (place / file.name).symlink_to(file.resolve())


def main() -> int:
    """Type the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--few", action="store_true")
    given = parser.parse_args()
    divide(given.pairs, given.out / "mine")
    for command in page_lines():
        words = bounded(command) if given.few else shlex.split(command)
        print(f"$ {shlex.join(words)}", flush=True)
        program = Path(sys.executable).parent / words[0]
        if subprocess.run([program, *words[1:]], cwd=given.out, check=False).returncode:
            return 1
    kept = sorted(file.parent.name for file in given.out.glob("runs/*/best.*"))
    print(f"best weights: {', '.join(kept)}")
    return int(len(kept) < len(FEW))


if __name__ == "__main__":
    raise SystemExit(main())
