"""The demonstration's verdict: a sound run passes, and each way of being unsound is named."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from yggdrasil.demo.report import Totals, judge, show
from yggdrasil.vedrfolnir.terminal import cents

CARD = {
    "chosen": "offer_1",
    "explored": False,
    "propensity": 0.99,
    "feasible": 2,
    "gates_failed": ["capacity"],
    "candidates": [{"offer": "offer_1", "score": 0.5, "band": -3, "chosen": True, "parts": {"price": 0.25}}],
}


def trade(side: str, state: str = "COMPLETED", **fields: Any) -> dict[str, Any]:
    done = state == "COMPLETED"
    return {
        "side": side,
        "state": state,
        "kind": "chat",
        "model": "m",
        "prompt_tokens": 10 if done else 0,
        "completion_tokens": 5 if done else 0,
        "total_microcents": 1_000_000 if done else 0,
        "fee_microcents": 120_000 if done else 0,
        "earnings_microcents": 880_000 if done else 0,
        "latency_ms": 20 if done else None,
        "attempts": 1,
        "error_code": None if done else "lost",
        "decision_card": CARD if side == "requester" else None,
        **fields,
    }


def sound() -> Totals:
    return Totals(
        bought=[trade("requester", buyer="ask") for _ in range(20)],
        sold={"a": [trade("provider", "FAILED")], "b": [trade("provider") for _ in range(20)]},
        wallets_microcents={"ask": (50_000_000, 30_000_000)},
        earned_microcents={"a": 0, "b": 17_600_000},
        balance={
            "sum_microcents": 0,
            "clearing_microcents": 0,
            "open_holds": 0,
            "held_microcents": 0,
            "mismatched_balances": 0,
            "cost_microcents": 20_000_000,
            "fee_microcents": 2_400_000,
            "earnings_microcents": 17_600_000,
        },
        devices=3,
        providers=2,
        networks=3,
        texts=200,
        chats=20,
        seconds=1.25,
        killed="a",
    )


def test_a_sound_run_has_no_problems() -> None:
    assert judge(sound()) == []


def _books(**changes: int) -> Callable[[Totals], Totals]:
    return lambda totals: dataclasses.replace(totals, balance={**totals.balance, **changes})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_books(sum_microcents=1), "sum_microcents is 1"),
        (_books(clearing_microcents=-1), "clearing_microcents is -1"),
        (_books(open_holds=1), "open_holds is 1"),
        (_books(fee_microcents=2_400_001), "cost is not fee \\+ earnings"),
        (_books(cost_microcents=20_000_001), "do not add up to the cost"),
        (
            lambda totals: dataclasses.replace(totals, wallets_microcents={"ask": (50_000_000, 29_000_000)}),
            "ask paid 21 cents for requests that cost 20 cents",
        ),
        (
            lambda totals: dataclasses.replace(totals, earned_microcents={"a": 1, "b": 17_600_000}),
            "a's rows do not add up",
        ),
        (
            lambda totals: dataclasses.replace(
                totals, bought=[*totals.bought, trade("requester", "FAILED", buyer="ask")]
            ),
            "1 requests did not complete",
        ),
        (
            lambda totals: dataclasses.replace(
                totals,
                sold={**totals.sold, "a": [trade("provider", "FAILED", error_code="busy")]},
            ),
            "left no request",
        ),
        (lambda totals: dataclasses.replace(totals, texts=199), "fewer than 200 passages"),
    ],
)
def test_an_unsound_run_is_named(spoil: Callable[[Totals], Totals], says: str) -> None:
    problems = judge(spoil(sound()))
    with pytest.raises(AssertionError, match=says):
        raise AssertionError("; ".join(problems))


def test_the_document_has_what_was_promised() -> None:
    assert sound().document() == {
        "embeddings": {"requests": 0, "tokens": 0},
        "chat": {"requests": 20, "tokens": 300},
        "failovers": 1,
        "devices": 3,
        "providers": 2,
        "networks": 3,
        "ledger": {"sum_microcents": 0, "clearing_microcents": 0, "open_holds": 0},
        "cost_microcents": 20_000_000,
        "fee_microcents": 2_400_000,
        "earnings_microcents": 17_600_000,
        "seconds": 1.2,
    }


def test_the_tables_print_and_brackets_in_an_answer_are_text() -> None:
    console = Console(record=True, width=120, file=io.StringIO())
    totals = sound()
    totals.problems.append("something [odd]")
    show(console, totals, ("Why [so]?", "Because of [red]."))
    text = console.export_text()
    for part in (
        "offer_1",
        "Trial balance",
        "a (killed)",
        "Why [so]?",
        "Because of [red].",
        "something [odd]",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("microcents", "text"),
    [(0, "0 cents"), (1, "0.000001 cents"), (12_340_000, "12.34 cents"), (-1_500_000, "-1.5 cents")],
)
def test_cents_are_exact(microcents: int, text: str) -> None:
    assert cents(microcents) == text
