"""docs/audit.md against the code."""

from __future__ import annotations

import re
from pathlib import Path

from yggdrasil.audit import EventKind
from yggdrasil.audit.chain import FORMAT, FORMATS, HEAD_COLUMNS
from yggdrasil.audit.detection import PER_ASKER, PER_NETWORK, REPEATED_WEIGHT
from yggdrasil.audit.unknown import TOLD

PAGE = (Path(__file__).parent.parent.parent / "docs" / "audit.md").read_text()


def test_every_kind_has_a_line() -> None:
    table = PAGE.split("## What is audited")[1].split("**A crossing")[0]
    assert set(re.findall(r"`([a-z]+\.[a-z]+)`", table)) == set(EventKind)


def test_the_format_is_the_one_that_is_hashed() -> None:
    text = " ".join(PAGE.split(f"### Format {FORMAT}")[1].split("```")[1].split())
    assert ", ".join(FORMATS[FORMAT]) in text
    assert ", ".join(HEAD_COLUMNS) in text


def test_the_thresholds_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    for rule, who in ((PER_ASKER, "asker"), (PER_NETWORK, "network")):
        assert f"each {who} holds {rule.size:.0f} and loses {rule.leak_per_minute:.0f} a minute" in text
    assert f"a repeated one 1/{1 / REPEATED_WEIGHT:.0f}" in text
    assert f"at most {TOLD.size:.0f} such rows at once" in text
