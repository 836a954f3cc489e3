"""The slice of a kind's runs that `make test` makes; a file for each kind, so that they share the machine."""

from __future__ import annotations

import os
from typing import Final

from tests.conftest import SEED
from tests.isolation.worlds.campaign import run_chunk
from tests.isolation.worlds.stage import Stage
from tests.isolation.worlds.ways import ways_of

RUNS: Final = int(os.environ.get("YGG_WORLDS_RUNS", "60"))
ROUTES_ASKED_MIN: Final = 0.9


def check(on: Stage, kind: str) -> None:
    """AssertionError for a difference, told as it was found: `python -m tests.isolation.worlds` looks for the
    fewest steps, which takes minutes."""
    result = run_chunk(on, kind, SEED, runs=RUNS, shrink=False)
    assert not result.differences, "\n".join(result.reports)
    assert result.two_world_runs >= RUNS
    # Nothing new can be forgotten, and most of what there is was tried even in this slice.
    assert len(result.answers) >= ROUTES_ASKED_MIN * len(ways_of(on.crowded.app))
