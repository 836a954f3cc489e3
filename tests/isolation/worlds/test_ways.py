"""Every route and message is tried, and a seed means the same runs."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis.internal.conjecture import providers

from tests.isolation.worlds.campaign import run_chunk
from tests.isolation.worlds.people import Person
from tests.isolation.worlds.says import MESSAGES, message_types
from tests.isolation.worlds.stage import Stage
from tests.isolation.worlds.ways import BODIES, DEALS, Maker, unknown, ways_of

DRAWN = 2_000


def test_there_is_a_way_to_ask_on_every_route(on: Stage) -> None:
    """A new route, parameter or body needs values in `ways`."""
    assert not list(unknown(ways_of(on.crowded.app)))


def test_there_is_a_way_to_say_every_message() -> None:
    assert sorted(MESSAGES) == message_types()


def test_a_repeated_run_does_the_same(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed means the same runs, whatever else is loaded: what is reported can be repeated."""

    def not_here() -> Any:
        raise AssertionError("what is drawn depends on the modules that are loaded")

    monkeypatch.setattr(providers, "_get_local_constants", not_here)
    first, second = (run_chunk(on, "strict", 7, runs=2) for _ in range(2))
    assert not first.differences, first.reports
    assert (first.steps, first.compared, first.answers) == (second.steps, second.compared, second.answers)


def test_who_does_not_trade_says_so_in_every_body(on: Stage) -> None:
    """Also in a distorted one: a victim that buys from the attacker is seen by it, and rightly."""
    maker = Maker(Person("victim", 1), [], random.Random(1), trades=False, now=0)
    dealing = [
        way for way in ways_of(on.crowded.app) if way.has_body and DEALS & BODIES[way.name](maker).keys()
    ]
    assert "POST /v1/embeddings" in {way.name for way in dealing}
    for way in dealing:
        for _ in range(DRAWN):
            asked = maker.ask(way).body
            try:
                body = json.loads(asked)
            except ValueError:
                continue  # cut short: no route reads it
            said = {**body, **body.get("yggdrasil", {})}
            assert {said[name] for name in ("audience", "scope") if name in said} <= {"own", "network"}
            assert way.method == "PUT" or DEALS & body.keys(), f"{way.name}: deals with everybody"
