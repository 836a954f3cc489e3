"""The guard of CI fails when a ratio falls below its floor, and when there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benches.guard import FLOORS, Floor
from benches.report import Measure

from benches import guard


def made(floor: Floor, ratio: float) -> dict[str, Any]:
    """A result of a run in which the peer needed that many times our CPU time."""
    peer = f"{floor.peer} 1.2.3"
    measure = Measure(floor.measure, "ns CPU", "lower", ours=[100.0], peers={peer: [100.0 * ratio]})
    spent = {"ours": {"server": 60, "postgresql": 40}, peer: {"server": 100 * ratio}}
    return replace(measure, notes={"cpu_us_per_request": spent}).record()


@pytest.fixture
def results(tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """Results of a run that is a little above every floor."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for floor in FLOORS:
        groups.setdefault(floor.group, []).append(made(floor, floor.least * 1.01))
    return groups


def guarded(home: Path, groups: dict[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> int:
    for group, measures in groups.items():
        (home / f"{group}.json").write_text("".join(json.dumps(measure) + "\n" for measure in measures))
    monkeypatch.setattr(guard, "HOME", home)
    return guard.main()


def test_a_run_above_every_floor_passes(
    tmp_path: Path, results: dict[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guarded(tmp_path, results, monkeypatch) == 0


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: floor.measure)
def test_each_ratio_below_its_floor_fails(
    floor: Floor,
    tmp_path: Path,
    results: dict[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = [measure for measure in results[floor.group] if measure["name"] != floor.measure]
    results[floor.group] = [*kept, made(floor, floor.least * 0.98)]
    assert guarded(tmp_path, results, monkeypatch) == 1
    below = [line for line in capsys.readouterr().out.splitlines() if "BELOW" in line]
    assert [line.split(":")[0] for line in below] == [floor.measure]


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: floor.measure)
def test_a_result_that_is_not_there_fails(
    floor: Floor,
    tmp_path: Path,
    results: dict[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results[floor.group] = [measure for measure in results[floor.group] if measure["name"] != floor.measure]
    assert guarded(tmp_path, results, monkeypatch) == 1
    assert "MISSING" in capsys.readouterr().out


def test_a_run_that_left_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guarded(tmp_path, {}, monkeypatch) == 1


def test_a_peer_that_is_not_there_fails(
    tmp_path: Path, results: dict[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for measure in results["guarded"]:
        measure["peers"] = {"another 1.0": 1e9}
    assert guarded(tmp_path, results, monkeypatch) == 1
