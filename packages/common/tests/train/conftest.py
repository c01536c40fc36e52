"""Runs of the tiny paper."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llve_common.train.trainer import train


@pytest.fixture
def go(paper, procedure, settings_in) -> Callable[..., Path]:
    """Trains the tiny procedure, parts of it replaced, and gives the run's folder."""

    tiny = paper

    def start(
        train_settings=None, run=None, resume=None, watch=None, notes=(), paper=None, whole=None,
        **changes,
    ):  # fmt: skip
        settings = whole or settings_in(run, **(train_settings or {}))
        more = {"resume": resume, "watch": watch, "notes": notes}
        return train(paper or tiny(), procedure(**changes), settings, **more)

    return start


@pytest.fixture
def losses() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads the lines of a run's losses."""
    return lambda folder: [
        json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()
    ]
