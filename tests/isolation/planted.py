"""Plant each leak in a copy of the tree, and see which test finds it.

    python -m tests.isolation.planted [--only NAME] [--seconds S] [--jobs N] [--fresh]

prints {"planted": {"caught": n, "total": n}, "by": {name: test}} and keeps what is known in
build/isolation/planted.json: a run that was stopped goes on where it was, and what was found in an older tree
is looked for again. A test counts only if it passes in an unchanged copy of the same tree. Exit status 0: all
are caught; 1: one is not, or its text is gone; 2: the time was too short.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.isolation.mutants import Mutant, Stale, all_mutants, apply

ROOT = Path(__file__).resolve().parents[2]
PLACE = Path("build/isolation/planted.json")
SUITE_SECONDS_MAX = 240.0
LATE_SECONDS_MAX = 60.0
"""For how long a suite may go on when the time is over."""
COPIED = (
    "python",
    "tests",
    "docs",
    "benches",
    "tools",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
)
FALLBACK = (
    "tests/db/test_linter.py::test_our_catalog_is_clean",
    "tests/db/test_checks.py",
    "tests/db/test_scopes.py",
    "tests/db/test_drift.py",
    "tests/isolation",
)
"""Where to look when a mutant's own suites saw nothing. None of them plants mutants itself."""
NOT_HERE = ("--ignore", "tests/isolation/test_planted.py")
_FAILED = re.compile(r"^FAILED (\S.*?)(?: - .*)?$", re.M)
_ERROR = re.compile(r"^ERROR (\S.*?)(?: - .*)?$", re.M)


@dataclass
class Report:
    """What is known: of each mutant the test that caught it, or "" for none; of each such test whether it
    passes clean."""

    tree: str
    by: dict[str, str] = field(default_factory=dict)
    clean: dict[str, bool] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, tree: str) -> Report:
        if PLACE.exists():
            kept = json.loads(PLACE.read_text())
            if kept.get("tree") == tree:
                return cls(tree, kept["by"], kept["clean"], kept["notes"])
        return cls(tree)

    def keep(self) -> None:
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        PLACE.write_text(json.dumps(vars(self), indent=1) + "\n")


def digest_of(root: Path) -> str:
    """What the results depend on: every source below python/ and tests/."""
    found = hashlib.sha256()
    for top in ("python", "tests"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in (".py", ".sql", ".toml", ".json") and "__pycache__" not in path.parts:
                found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


@contextmanager
def copy_of_tree() -> Iterator[Path]:
    """Sources alone; the compiled engines are linked to, for no mutant touches them."""
    place = Path(tempfile.mkdtemp(prefix="yggdrasil-planted-"))
    place.chmod(0o711)
    try:
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "node_modules")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, place / name, ignore=ignored)
            elif source.exists():
                shutil.copy(source, place / name)
        for library in (ROOT / "python/yggdrasil").glob("*.so"):
            (place / "python/yggdrasil" / library.name).symlink_to(library)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


async def run_suite(root: Path, suite: str, seconds: float = SUITE_SECONDS_MAX) -> tuple[str, str]:
    """`passed`, `failed` or `broken`, and the first test that failed or what is wrong."""
    inside = {key: text for key, text in os.environ.items() if not key.startswith(("YGGDRASIL_", "PYTEST"))}
    inside |= {"PYTHONPATH": str(root / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ("-x", "-rfE", "-p", "no:cacheprovider", "--no-header", *NOT_HERE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", *options, suite),
        cwd=root,
        env=inside,
        start_new_session=True,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            said = (await process.communicate())[0].decode(errors="replace")
    except TimeoutError:
        return "broken", f"took more than {seconds:.0f} s"
    finally:
        if process.returncode is None:
            # The session it leads: the server and the database it started, too.
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    failed, errors = _FAILED.findall(said), _ERROR.findall(said)
    if process.returncode == 0:
        return "passed", ""
    if process.returncode == 1 and failed:
        return "failed", failed[0]
    # A tree that does not start, or whose fixtures fail, is no leak that a test has seen.
    return "broken", (errors or [said.strip()[-300:]])[0]


class Planter:
    """Plants one mutant after the other; suites are tried in order until one fails that passes clean."""

    def __init__(self, report: Report, until: float) -> None:
        self._report = report
        self._until = until
        self._trying: dict[str, asyncio.Lock] = {}

    async def plant(self, mutant: Mutant) -> None:
        """Find the test that catches it, and note it."""
        suites = (*mutant.suites, *(suite for suite in FALLBACK if suite not in mutant.suites))
        noted = ""
        with copy_of_tree() as root:
            try:
                apply(mutant, root)
            except Stale as error:
                self._note(mutant, "", f"stale: {error}")
                return
            for suite in suites:
                left = self._until + LATE_SECONDS_MAX - time.monotonic()
                if left <= LATE_SECONDS_MAX:
                    return
                outcome, what = await run_suite(root, suite, min(SUITE_SECONDS_MAX, left))
                if outcome == "broken" and time.monotonic() > self._until:
                    return
                if outcome == "failed" and suite not in mutant.suites:
                    # Nobody expected it of this suite: once may have been chance.
                    outcome, what = await run_suite(root, what, min(SUITE_SECONDS_MAX, left))
                if outcome == "failed" and await self._passes_clean(what):
                    self._note(mutant, what, noted)
                    return
                if time.monotonic() > self._until:
                    return
                if outcome != "passed":
                    noted = f"{suite}: {outcome}: {what}"
                if outcome == "broken" and suite == mutant.suites[0]:
                    break
        self._note(mutant, "", noted)

    async def _passes_clean(self, failed: str) -> bool:
        """Whether the failed test passes in the unchanged tree; asked once, if there is time for it."""
        async with self._trying.setdefault(failed, asyncio.Lock()):
            if failed not in self._report.clean:
                left = self._until + LATE_SECONDS_MAX - time.monotonic()
                with copy_of_tree() as root:
                    outcome, what = await run_suite(root, failed, max(1.0, min(SUITE_SECONDS_MAX, left)))
                if outcome == "broken" and time.monotonic() > self._until:
                    return False
                self._report.clean[failed] = outcome == "passed"
                if outcome != "passed":
                    self._report.notes[failed] = f"fails in the unchanged tree: {outcome}: {what}"
                self._report.keep()
        return self._report.clean[failed]

    def _note(self, mutant: Mutant, by: str, note: str) -> None:
        self._report.by[mutant.name] = by
        self._report.notes.pop(mutant.name, None)
        if note:
            self._report.notes[mutant.name] = note
        self._report.keep()
        print(f"{mutant.name}: {by or 'NOT CAUGHT ' + note}", file=sys.stderr, flush=True)


async def plant_all(mutants: Sequence[Mutant], report: Report, seconds: float, jobs: int) -> None:
    """All that are not known yet, `jobs` at a time."""
    planter = Planter(report, time.monotonic() + seconds)
    waiting = [mutant for mutant in mutants if not report.by.get(mutant.name)]
    turns = asyncio.Semaphore(jobs)

    async def one(mutant: Mutant) -> None:
        async with turns:
            await planter.plant(mutant)

    await asyncio.gather(*(one(mutant) for mutant in waiting))


def main(arguments: list[str]) -> int:
    """Exit status as the module says."""
    parser = argparse.ArgumentParser(prog="python -m tests.isolation.planted", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="these alone; may be repeated"
    )
    parser.add_argument("--seconds", type=float, default=1_500.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="forget what was found before")
    parser.add_argument("--list", action="store_true", help="print what there is to plant")
    asked = parser.parse_args(arguments)
    mutants = all_mutants()
    if asked.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.what}")
        return 0
    unknown = sorted(set(asked.only) - {mutant.name for mutant in mutants})
    if unknown:
        parser.error(f"--only: there is no {', '.join(unknown)}")
    if asked.only:
        mutants = tuple(mutant for mutant in mutants if mutant.name in asked.only)
    if asked.fresh:
        PLACE.unlink(missing_ok=True)
    # As Ctrl-C does: suites, their servers and the copies of the tree go with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report.read(digest_of(ROOT))
    asyncio.run(plant_all(mutants, report, asked.seconds, asked.jobs))
    by = {mutant.name: report.by.get(mutant.name) for mutant in mutants}
    caught = sum(bool(test) for test in by.values())
    print(json.dumps({"planted": {"caught": caught, "total": len(mutants)}, "by": by}, indent=1))
    if any(test == "" for test in by.values()):
        return 1
    return 0 if caught == len(mutants) else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
