# ruff: noqa: E501  what is replaced has its own lines
"""Leaks that are planted to see which test finds them: one small mistake each, of our own code or schema.

A mutant that stands here is true: the text it replaces is looked for, and a mutant whose text is gone fails the run
(`tests/isolation/test_planted.py` looks at all of them). New code that carries a border gets its mutant here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MIGRATIONS = Path("python/yggdrasil/db/migrations")
PLANTED_MIGRATION = MIGRATIONS / "9900_planted.sql"


@dataclass(frozen=True)
class Patch:
    """`old`, found exactly once in the file, becomes `new`. `path` is relative to python/yggdrasil."""

    path: str
    old: str
    new: str

    @property
    def file(self) -> Path:
        return Path("python/yggdrasil") / self.path


@dataclass(frozen=True)
class Mutant:
    """One planted leak. `suites`: where to look first, the cheapest before; node ids of pytest. `sql` is run as the
    owner after the last migration."""

    name: str
    what: str
    suites: tuple[str, ...]
    patches: tuple[Patch, ...] = ()
    sql: str = ""


class Stale(Exception):
    """The text that a mutant changes is not there any more, or more than once."""


def apply(mutant: Mutant, root: Path) -> None:
    """Change the copy of the tree below `root`. Raises Stale."""
    for patch in mutant.patches:
        path = root / patch.file
        text = path.read_text() if path.is_file() else ""
        if text.count(patch.old) != 1:
            raise Stale(f"{mutant.name}: found {text.count(patch.old)} times in {patch.file}: {patch.old!r}")
        if patch.new == patch.old:
            raise Stale(f"{mutant.name}: changes nothing in {patch.file}")
        path.write_text(text.replace(patch.old, patch.new))
    if mutant.sql:
        (root / PLANTED_MIGRATION).write_text(mutant.sql + ";\n")


def all_mutants() -> tuple[Mutant, ...]:
    """Every one, schema first. Names are unique."""
    from tests.isolation.mutants import code, edges, market, schema

    found = (*schema.MUTANTS, *code.MUTANTS, *edges.MUTANTS, *market.MUTANTS)
    names = [mutant.name for mutant in found]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return found
