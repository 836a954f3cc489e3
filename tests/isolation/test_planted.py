"""The command that plants leaks works: every text is there, a slice is caught, and what leaks nothing is not.

All of them: `python -m tests.isolation.planted`, and `make campaign-isolation`.
"""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

from tests.isolation import planted
from tests.isolation.mutants import Mutant, Patch, Stale, all_mutants, apply
from tests.isolation.planted import ROOT, Planter, Report, copy_of_tree, plant_all

MUTANTS_MIN = 40
SLICE = (
    "one-pseudonym-for-all-viewers",
    "no-reset",
    "global-unique",
    "key-cache-without-the-secret",
)
"""Of the code, the database's way in, the schema, and a cache: the cheap ones."""
SECONDS_MAX = 300.0


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "PLACE", tmp_path / "planted.json")


def test_every_mutant_is_true() -> None:
    """What it replaces is there, once, and what comes of it is Python still."""
    mutants = all_mutants()
    assert len(mutants) >= MUTANTS_MIN
    with copy_of_tree() as root:
        for mutant in mutants:
            kept = {patch.file: (root / patch.file).read_text() for patch in mutant.patches}
            apply(mutant, root)
            for path, text in kept.items():
                if path.suffix == ".py":
                    ast.parse((root / path).read_text())
                (root / path).write_text(text)


def test_every_suite_is_there() -> None:
    for mutant in all_mutants():
        assert mutant.suites, mutant.name
        for suite in mutant.suites:
            path, _, name = suite.partition("::")
            assert (ROOT / path).exists(), f"{mutant.name}: {suite}"
            assert not name or f"def {name}(" in (ROOT / path).read_text(), f"{mutant.name}: {suite}"


def test_a_mutant_whose_text_is_gone_is_refused() -> None:
    with copy_of_tree() as root:
        for patch in (Patch("errors.py", "no such text", "x"), Patch("no_such_file.py", "a", "b")):
            with pytest.raises(Stale):
                apply(Mutant("gone", "", ("tests/test_kernel.py",), (patch,)), root)


async def test_a_slice_is_caught() -> None:
    report = Report("slice")
    await plant_all([one for one in all_mutants() if one.name in SLICE], report, SECONDS_MAX, jobs=2)
    assert set(report.by) == set(SLICE)
    assert all(report.by.values()), (report.by, report.notes)


async def test_the_control_what_changes_nothing_is_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a tree that does not even start, which any test would fail in."""
    monkeypatch.setattr(planted, "FALLBACK", ("tests/test_kernel.py",))
    harmless = Patch("errors.py", '"""No credential, or one that is not valid (any more)."""', '"""None."""')
    broken = Patch("errors.py", "class YggdrasilError(Exception):", "class YggdrasilError(Nothing):")
    report = Report("control")
    planter = Planter(report, time.monotonic() + SECONDS_MAX)
    for name, patch in (("harmless", harmless), ("broken", broken)):
        await planter.plant(Mutant(name, "", ("tests/test_kernel.py",), (patch,)))
    assert report.by == {"harmless": "", "broken": ""}
    assert "broken" in report.notes["broken"]
