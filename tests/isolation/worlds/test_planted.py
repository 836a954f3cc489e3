"""The controls: leaks planted on purpose, each of which the oracle must find."""

from __future__ import annotations

import pytest

from tests.isolation.worlds.campaign import run_chunk
from tests.isolation.worlds.planted import LEAKS, Leak
from tests.isolation.worlds.stage import Stage

RUNS_MAX = 60
SEED = 11


@pytest.mark.parametrize("leak", LEAKS, ids=[leak.name for leak in LEAKS])
def test_a_planted_leak_is_found(on: Stage, leak: Leak, monkeypatch: pytest.MonkeyPatch) -> None:
    with leak.plant(monkeypatch, on):
        result = run_chunk(on, leak.kind, SEED, runs=RUNS_MAX, shrink=False)
    assert result.differences, f"not found in {result.two_world_runs} runs: {leak.name}"
    assert "can tell the worlds apart" in result.reports[0], result.reports[0][-3000:]
    print(f"{leak.name}: found in run {result.two_world_runs}")
