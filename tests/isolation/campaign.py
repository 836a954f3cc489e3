"""The long proof of isolation: every part by its own command, time-boxed, going on where the last run ended.

    python -m tests.isolation.campaign [--seconds S] [--only PART] [--fresh]

writes build/isolation.json: what was counted, "complete", and, for each part that is not done or not clean,
why. A part that is not there, fails, or says less than it must makes the campaign fail: nothing is skipped in
silence. Exit status 0: all is done and clean; 1: something is not; 2: the time was too short, run it again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.isolation.planted import ROOT, digest_of

PLACE = Path("build/isolation/campaign.json")
RESULT = Path("build/isolation.json")
OUT_OF_TIME = 2
GRACE_SECONDS = 120.0
"""What a part may take beyond its box, for its own end, before it is killed."""

Found = dict[str, Any]


SO_FAR = "so far "
"""What a judge says begins so when nothing is wrong but that there was too little time."""


@dataclass(frozen=True)
class Part:
    """`command` is a module and its arguments, or a suite of pytest; `{seconds}` is its box. `judge` says
    what is wrong, or ""."""

    name: str
    command: tuple[str, ...]
    share: float
    judge: Callable[[Found], str]
    environment: Mapping[str, str] | None = None
    counted: Callable[[list[str], list[str], str], Found] | None = None
    """Of a suite: what comes of the names of its tests, of those that passed, and of what they printed."""


def bad_in(found: Found, name: str) -> int | None:
    """A count that must be 0, given as a number or as a list."""
    given = found.get(name)
    return len(given) if isinstance(given, list) else given


def at_least(name: str, most: int, *zero: str) -> Callable[[Found], str]:
    """`name` reached `most`, and each of `zero` is 0."""

    def judge(found: Found) -> str:
        for other in zero:
            if bad_in(found, other) != 0:
                return f"{other} is {bad_in(found, other)}, not 0"
        count = found.get(name)
        if not isinstance(count, int):
            return f"{name} is {count!r}"
        return "" if count >= most else f"{SO_FAR}{name} is {count} of {most}"

    return judge


def all_of(name: str, done: str) -> Callable[[Found], str]:
    """As many are `done` as there are in all."""

    def judge(found: Found) -> str:
        counts = found.get(name) or {}
        right = counts.get("total", 0) > 0 and counts.get(done) == counts["total"]
        return "" if right else f"{name}: {counts}"

    return judge


def _probed(found: Found) -> str:
    counted = at_least("probes", PROBES, "differences")(found)
    if counted:
        return counted
    coverage = found.get("slot_coverage")
    return "" if coverage == 1 else f"slot_coverage is {coverage!r}, not 1"


def _timed(found: Found) -> str:
    classes = found.get("timing")
    if not isinstance(classes, list) or not classes:
        return "timing is empty"
    differ = [one for one in classes if one.get("differs", True)]
    if differ:
        return f"{len(differ)} of {len(classes)} classes differ: {differ[:3]}"
    decided = sum("t" in one and one.get("equivalent") is True for one in classes)
    return "" if decided == len(classes) else f"{SO_FAR}{decided} of {len(classes)} classes are equivalent"


def _refused(names: list[str], passed: list[str], _: str) -> Found:
    right, every = (sum(name.startswith("test_each_break") for name in known) for known in (passed, names))
    return {"bad_schemas": {"refused": right, "total": every}}


def _found(names: list[str], passed: list[str], said: str) -> Found:
    told = re.search(r"(\d+) tamperings, all found", said)
    return {"tamperings": int(told[1])} if told is not None and names and names == passed else {}


PROBES, RUNS, STEPS, QUERIES, TAMPERINGS = 100_000, 2_000, 50, 1_000_000, 100_000
PAIRS = 2_000
"""They tell a difference of 5 µs on a quiet machine; a class that is not decided takes more."""

SEED = "1"

PARTS = (
    Part(
        "bad schemas", ("tests/db/test_linter.py",), 0.02, all_of("bad_schemas", "refused"), counted=_refused
    ),
    Part(
        "tamperings",
        ("tests/audit/test_chain.py::test_every_tampering_is_found", "-s"),
        0.08,
        at_least("tamperings", TAMPERINGS),
        # Some replace a head by itself, and are not counted.
        environment={"YGG_TAMPERINGS": str(TAMPERINGS * 104 // 100)},
        counted=_found,
    ),
    Part(
        "pool",
        ("tests.db.pool_chaos", "--queries", str(QUERIES), "--seconds", "{seconds}", "--seed", SEED),
        0.15,
        at_least("pool_queries", QUERIES, "foreign_rows", "leaked_scopes", "leaked_connections"),
    ),
    Part("planted", ("tests.isolation.planted", "--seconds", "{seconds}"), 0.25, all_of("planted", "caught")),
    Part(
        "probes",
        ("tests.isolation.matrix", "--probes", str(PROBES), "--seconds", "{seconds}", "--seed", SEED),
        0.2,
        _probed,
    ),
    Part("timing", ("tests.isolation.timing", "--pairs", str(PAIRS), "--seconds", "{seconds}"), 0.1, _timed),
    Part(
        "worlds",
        (
            *("tests.isolation.worlds", "--runs", str(RUNS), "--steps", str(STEPS), "--seconds", "{seconds}"),
            *("--seed", SEED, "--state", "build/isolation/worlds.json"),
        ),
        0.2,
        at_least("two_world_runs", RUNS, "differences"),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What a part said, its exit status and, if it did not end well, why."""

    found: Found
    status: int
    why: str = ""


def last_object(text: str) -> Found | None:
    """The JSON object that a command printed last, on one line or on several."""
    lines = text.splitlines()
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith("{"):
            try:
                found = json.loads("\n".join(lines[at:]))
            except ValueError:
                continue
            return found if isinstance(found, dict) else None
    return None


def run(part: Part, seconds: float) -> Outcome:
    """One part in its box."""
    environment = {**os.environ, **(part.environment or {})}
    if part.counted is not None:
        return _run_suite(part, environment, seconds)
    command = [sys.executable, "-m", *(word.format(seconds=int(seconds)) for word in part.command)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            timeout=seconds + GRACE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome({}, 1, f"did not end {GRACE_SECONDS:.0f} s after its {seconds:.0f} s")
    found = last_object(done.stdout.decode(errors="replace"))
    if found is None:
        return Outcome({}, done.returncode or 1, f"exit status {done.returncode} and no result")
    return Outcome(found, done.returncode)


def _run_suite(part: Part, environment: Mapping[str, str], seconds: float) -> Outcome:
    """Tests of pytest that are counted, or that say what they have counted."""
    if not (ROOT / part.command[0].partition("::")[0]).is_file():
        return Outcome({}, 1, f"{part.command[0]} is not there")
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        command = [sys.executable, "-m", "pytest", *part.command, f"--junitxml={report}"]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                timeout=seconds + GRACE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome({}, 1, f"did not end {GRACE_SECONDS:.0f} s after its {seconds:.0f} s")
        cases = list(ElementTree.parse(report).iter("testcase")) if report.is_file() else []
    said = done.stdout.decode(errors="replace")
    bad = ("failure", "error", "skipped")
    names = [case.get("name", "") for case in cases]
    passed = [case.get("name", "") for case in cases if not any(case.find(kind) is not None for kind in bad)]
    if done.returncode != 0:
        print(said, file=sys.stderr)
    return Outcome(part.counted(names, passed, said) if part.counted else {}, done.returncode)


def judged(part: Part, outcome: Outcome) -> str:
    """What is wrong with a part, or ""."""
    if outcome.why:
        return outcome.why
    wrong = part.judge(outcome.found)
    if not wrong and outcome.status != 0:
        wrong = f"exit status {outcome.status}"
    return wrong


def merged(found: Mapping[str, Found], wrong: Mapping[str, str]) -> Found:
    """The form of the issue."""
    of = lambda part: found.get(part, {})  # noqa: E731
    return {
        "seeds": {part: of(part)[name] for part in found for name in ("seed", "seeds") if name in of(part)},
        "probes": of("probes").get("probes"),
        "slot_coverage": of("probes").get("slot_coverage"),
        "two_world_runs": of("worlds").get("two_world_runs"),
        "differences": _sum(bad_in(of("probes"), "differences"), bad_in(of("worlds"), "differences")),
        "planted": of("planted").get("planted"),
        "bad_schemas": of("bad schemas").get("bad_schemas"),
        "pool_queries": of("pool").get("pool_queries"),
        "timing": of("timing").get("timing", []),
        "tamperings": of("tamperings").get("tamperings"),
        "complete": not wrong,
        "wrong": dict(wrong),
    }


def _sum(*counts: int | None) -> int | None:
    """None while one of them is not known: an unknown difference is not none."""
    return (
        None
        if any(count is None for count in counts)
        else sum(count for count in counts if count is not None)
    )


def campaign(
    parts: Sequence[Part], seconds: float, tree: str, everything: Sequence[Part] = PARTS
) -> tuple[Found, dict[str, int]]:
    """Run what is not done yet of `parts`. The result, complete when `everything` is, and each part's exit
    status that was not 0."""
    kept: Found = json.loads(PLACE.read_text()) if PLACE.exists() else {}
    found: dict[str, Found] = kept.get("found", {}) if kept.get("tree") == tree else {}
    said, wrong = dict(found), dict[str, str]()
    statuses: dict[str, int] = {}
    until = time.monotonic() + seconds
    share = sum(part.share for part in parts if part.name not in found)
    for part in parts:
        if part.name in found:
            continue
        left = until - time.monotonic()
        box = max(0.0, left) * part.share / share
        share -= part.share
        print(f"→ {part.name}, {box:.0f} s", file=sys.stderr, flush=True)
        outcome = run(part, box)
        why = judged(part, outcome)
        if why:
            wrong[part.name] = why
            statuses[part.name] = OUT_OF_TIME if why.startswith(SO_FAR) else outcome.status or 1
            print(f"  {part.name}: {why}", file=sys.stderr, flush=True)
        else:
            found[part.name] = outcome.found
            PLACE.parent.mkdir(parents=True, exist_ok=True)
            PLACE.write_text(json.dumps({"tree": tree, "found": found}, indent=1) + "\n")
        said[part.name] = outcome.found
        _write(merged(said, wrong))
    result = merged(said, wrong)
    missing = [part.name for part in everything if part.name not in found and part.name not in wrong]
    if missing:
        result["wrong"] |= dict.fromkeys(missing, "not run")
        result["complete"] = False
    _write(result)
    return result, statuses


def _write(result: Found) -> None:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Exit status as the module says."""
    parser = argparse.ArgumentParser(prog="python -m tests.isolation.campaign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3_600.0)
    parser.add_argument("--only", action="append", default=[], choices=[part.name for part in PARTS])
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    asked = parser.parse_args(arguments)
    if asked.fresh:
        PLACE.unlink(missing_ok=True)
    parts = [part for part in PARTS if not asked.only or part.name in asked.only]
    result, statuses = campaign(parts, asked.seconds, digest_of(ROOT))
    print(json.dumps(result, indent=1))
    if any(status != OUT_OF_TIME for status in statuses.values()):
        return 1
    return 0 if result["complete"] else OUT_OF_TIME


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
