"""An attacker cannot tell two worlds apart: a slice of the runs that a campaign makes many of."""

from __future__ import annotations

import os

import pytest

from tests.conftest import SEED
from tests.isolation.worlds.campaign import KINDS, run_chunk
from tests.isolation.worlds.says import MESSAGES, message_types
from tests.isolation.worlds.stage import Stage
from tests.isolation.worlds.ways import unknown, ways_of

RUNS = int(os.environ.get("YGG_WORLDS_RUNS", "10"))
"""Of each kind."""
ROUTES_ASKED_MIN = 0.75


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_worlds_cannot_be_told_apart(on: Stage, kind: str) -> None:
    result = run_chunk(on, kind, SEED, runs=RUNS)
    assert not result.differences, "\n".join(result.reports)
    assert result.two_world_runs >= RUNS
    # Nothing new can be forgotten, and most of what there is was tried even in this slice.
    assert len(result.answers) >= ROUTES_ASKED_MIN * len(ways_of(on.crowded.app))


def test_there_is_a_way_to_ask_on_every_route(on: Stage) -> None:
    """A new route, parameter or body needs values in `ways`."""
    assert not list(unknown(ways_of(on.crowded.app)))


def test_there_is_a_way_to_say_every_message() -> None:
    assert sorted(MESSAGES) == message_types()


def test_a_repeated_run_does_the_same(on: Stage) -> None:
    """A seed means the same runs: what is reported can be repeated."""
    first, second = (run_chunk(on, "strict", 7, runs=2) for _ in range(2))
    assert (first.steps, first.compared, first.answers) == (second.steps, second.compared, second.answers)
