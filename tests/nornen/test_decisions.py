"""From facts to a verdict: each rule, and that it says which model and why."""

from __future__ import annotations

from typing import Any

import pytest

from yggdrasil.marketplace.verdicts import Facts
from yggdrasil.nornen.decisions import decide


def facts(**changes: Any) -> Facts:
    known = {
        "model": "m",
        "kind": "chat",
        "answered": True,
        "why": "",
        "latency_ms": 300,
        "tokens_per_second": 40,
        "observed_tokens": 20,
        "claimed_tokens": 25,
    }
    return Facts(**(known | changes))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"claimed_tokens": None}, None),
        ({"answered": False, "why": "its answer is empty"}, "no_answer"),
        ({"latency_ms": 20_000}, None),
        ({"latency_ms": 20_001}, "too_slow"),
        ({"claimed_tokens": 40}, None),
        ({"claimed_tokens": 41}, "claims_too_much"),
        ({"observed_tokens": 1, "claimed_tokens": 21}, None),
        ({"observed_tokens": 1, "claimed_tokens": 22}, "claims_too_much"),
    ],
)
def test_each_rule(changes: dict[str, Any], rule: str | None) -> None:
    verdict, reasons = decide([facts(**changes)])
    assert verdict == ("accepted" if rule is None else "refused")
    assert [reason.rule for reason in reasons] == ([] if rule is None else [rule])


def test_one_bad_model_refuses_and_every_reason_is_named() -> None:
    verdict, reasons = decide(
        [
            facts(),
            facts(model="slow", latency_ms=60_000, claimed_tokens=900),
            facts(model="mute", answered=False),
        ]
    )
    assert verdict == "refused"
    assert [(one.model, one.rule) for one in reasons] == [
        ("slow", "too_slow"),
        ("slow", "claims_too_much"),
        ("mute", "no_answer"),
    ]
    assert all(one.model in one.text for one in reasons)
