"""The campaign says that it is complete when every part is, and never before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.isolation import campaign as campaign_
from tests.isolation.campaign import (
    PARTS,
    Part,
    _found,
    _refused,
    _timed,
    all_of,
    at_least,
    campaign,
    last_object,
    main,
)

FORM = {
    "seeds", "probes", "slot_coverage", "two_world_runs", "differences", "planted", "bad_schemas",
    "pool_queries", "timing", "tamperings", "complete", "wrong",
}  # fmt: skip


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test puts the modules that play the parts."""
    monkeypatch.setattr(campaign_, "PLACE", tmp_path / "campaign.json")
    monkeypatch.setattr(campaign_, "RESULT", tmp_path / "isolation.json")
    monkeypatch.setattr(campaign_, "ROOT", tmp_path)
    return tmp_path


def part(place: Path, name: str, says: str, status: int = 0, **found: int) -> Part:
    """A part that prints `says`, notes that it ran, and ends with `status`."""
    (place / f"part_{name}.py").write_text(
        "import pathlib, sys\n"
        f"pathlib.Path('ran').open('a').write('{name} ')\n"
        f"print({says!r})\nsys.exit({status})\n"
    )
    (done, most), *_ = found.items()
    return Part(name, (f"part_{name}", "--seconds", "{seconds}"), 0.5, at_least(done, most, "differences"))


def test_all_parts_of_the_issue_are_there() -> None:
    assert {one.name for one in PARTS} == {
        "bad schemas", "tamperings", "pool", "planted", "probes", "timing", "worlds",
    }  # fmt: skip
    assert abs(sum(one.share for one in PARTS) - 1) < 1e-9


def test_it_is_complete_when_every_part_is_and_repeats_none(modules: Path) -> None:
    parts = [
        part(modules, "worlds", '{"two_world_runs": 9, "differences": 0, "seed": 7}', two_world_runs=9),
        part(modules, "probes", '{\n "probes": 9,\n "slot_coverage": 1.0,\n "differences": 0\n}', probes=9),
    ]
    for _ in range(2):
        result, statuses = campaign(parts, 60, "tree", parts)
        assert (result["complete"], result["wrong"], statuses) == (True, {}, {})
    assert set(result) == FORM
    assert (result["two_world_runs"], result["probes"], result["differences"]) == (9, 9, 0)
    assert result["seeds"] == {"worlds": 7}
    assert (modules / "ran").read_text() == "worlds probes "
    assert json.loads((modules / "isolation.json").read_text()) == result
    # Another tree is another proof.
    campaign(parts, 60, "another tree", parts)
    assert (modules / "ran").read_text() == "worlds probes " * 2


@pytest.mark.parametrize(
    ("says", "status", "why"),
    [
        ('{"probes": 9, "differences": 1}', 0, "differences"),
        ('{"probes": 8, "differences": 0}', 2, "so far probes is 8 of 9"),
        ('{"probes": 8, "differences": 0}', 0, "so far probes is 8 of 9"),
        ('{"probes": 9, "differences": [{"route": "/x"}]}', 0, "differences is 1"),
        ('{"probes": 9}', 0, "differences is None"),
        ('{"probes": 9, "differences": 0}', 1, "exit status 1"),
        ("all is well", 0, "no result"),
        ("[1]", 0, "no result"),
    ],
)
def test_a_part_that_is_not_clean_is_said(modules: Path, says: str, status: int, why: str) -> None:
    parts = [part(modules, "probes", says, status, probes=9)]
    result, statuses = campaign(parts, 60, "tree", parts)
    assert not result["complete"]
    assert why in result["wrong"]["probes"]
    assert statuses == {"probes": 2 if "so far" in why else status or 1}


def test_a_part_that_is_not_there_is_said(modules: Path) -> None:
    gone = [
        Part("worlds", ("no_such_module",), 0.5, at_least("two_world_runs", 1)),
        Part(
            "bad schemas", ("no/such/test_file.py",), 0.5, all_of("bad_schemas", "refused"), counted=_refused
        ),
    ]
    result, statuses = campaign(gone, 60, "tree", [*gone, *PARTS[:1]])
    assert set(result["wrong"]) == {"worlds", "bad schemas"}
    assert set(statuses) == {"worlds", "bad schemas"}
    assert main(["--only", "tamperings"]) == 1


def test_what_was_not_asked_for_is_not_done(modules: Path) -> None:
    (modules / "tests").mkdir()
    mine = [part(modules, "worlds", '{"two_world_runs": 9, "differences": 0}', two_world_runs=9)]
    result, statuses = campaign(mine, 60, "tree", [*mine, *PARTS])
    assert statuses == {}
    assert not result["complete"]
    assert set(result["wrong"].values()) == {"not run"}


def test_bad_schemas_are_counted_by_test(modules: Path) -> None:
    (modules / "test_schemas.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('n', range(3))\n"
        "def test_each_break(n):\n    assert n < 2\n"
    )
    counted = Part(
        "bad schemas", ("test_schemas.py",), 1.0, all_of("bad_schemas", "refused"), counted=_refused
    )
    result, _ = campaign([counted], 60, "tree", [counted])
    assert result["bad_schemas"] == {"refused": 2, "total": 3}
    assert not result["complete"]


@pytest.mark.parametrize(("prints", "wrong"), [("9 tamperings, all found: {}", False), ("", True)])
def test_tamperings_are_those_that_the_test_says(modules: Path, prints: str, wrong: bool) -> None:
    (modules / "test_chain.py").write_text(f"def test_found():\n    print({prints!r})\n")
    suite = ("test_chain.py::test_found", "-s")
    counted = Part("tamperings", suite, 1.0, at_least("tamperings", 9), counted=_found)
    result, _ = campaign([counted], 60, "tree", [counted])
    assert result["tamperings"] == (None if wrong else 9)
    assert result["complete"] is not wrong


SAME = {"class": "a", "t": 0.1, "equivalent": True, "differs": False}


@pytest.mark.parametrize(
    ("timing", "why"),
    [
        ([SAME, SAME], ""),
        ([SAME, SAME | {"equivalent": False}], "so far 1 of 2 classes are equivalent"),
        ([SAME, {"class": "b", "pairs": 3, "equivalent": False, "differs": False}], "so far 1 of 2"),
        ([SAME, SAME | {"equivalent": False, "differs": True}], "1 of 2 classes differ"),
        ([SAME, {}], "1 of 2 classes differ"),
        ([], "timing is empty"),
        (None, "timing is empty"),
    ],
)
def test_every_class_must_be_shown_to_be_equivalent(timing: object, why: str) -> None:
    said = _timed({"timing": timing})
    assert said.startswith(why)
    assert bool(said) == bool(why)


def test_the_last_object_is_the_result() -> None:
    assert last_object('{"a": 1}\nnoise\n{"b": 2}\n') == {"b": 2}
    assert last_object('{\n "a": {\n"b": 1}\n}') == {"a": {"b": 1}}
    assert last_object("noise") is None
