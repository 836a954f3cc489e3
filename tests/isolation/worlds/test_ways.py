"""Every route and message is tried, and a seed means the same runs."""

from __future__ import annotations

from tests.isolation.worlds.campaign import run_chunk
from tests.isolation.worlds.says import MESSAGES, message_types
from tests.isolation.worlds.stage import Stage
from tests.isolation.worlds.ways import unknown, ways_of


def test_there_is_a_way_to_ask_on_every_route(on: Stage) -> None:
    """A new route, parameter or body needs values in `ways`."""
    assert not list(unknown(ways_of(on.crowded.app)))


def test_there_is_a_way_to_say_every_message() -> None:
    assert sorted(MESSAGES) == message_types()


def test_a_repeated_run_does_the_same(on: Stage) -> None:
    """A seed means the same runs: what is reported can be repeated."""
    first, second = (run_chunk(on, "strict", 7, runs=2) for _ in range(2))
    assert (first.steps, first.compared, first.answers) == (second.steps, second.compared, second.answers)
