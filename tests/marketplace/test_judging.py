"""What an answer is worth, told from the answer alone; and how much of a claim is believed."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest

from yggdrasil.marketplace.judging import Judgement, judge, repeats
from yggdrasil.marketplace.tolerance import Tolerance

TOOLS = {"tools": [{"type": "function", "function": {"name": "look_up"}}]}
JSON = {"response_format": {"type": "json_object"}}


def answer(
    content: str | None = "A whole answer.", *, finish: str = "stop", **message: Any
) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": content, **message}, "finish_reason": finish}]}


def call(name: str = "look_up", arguments: str = '{"word": "yes"}') -> dict[str, Any]:
    return {"tool_calls": [{"id": "1", "function": {"name": name, "arguments": arguments}}]}


def judged(body: dict[str, Any], given: dict[str, Any], **facts: Any) -> Judgement:
    known: dict[str, Any] = {
        "delivered": True,
        "exaggerated": False,
        "completion_tokens": 20,
        "output_tokens_max": 100,
    }
    return judge(body, given, **(known | facts))


@pytest.mark.parametrize(
    ("body", "given", "mark"),
    [
        ({}, answer(), None),
        ({}, answer(finish="length"), "truncated"),
        ({}, answer("```python\nprint("), "truncated"),
        ({}, answer("```python\nprint()\n```"), None),
        (JSON, answer('{"a": 1}'), None),
        (JSON, answer('{"a": '), "invalid_json"),
        (JSON, answer("Sure! Here it is."), "invalid_json"),
        (JSON, answer("7"), "invalid_json"),
        (TOOLS, answer(None, finish="tool_calls", **call()), None),
        (TOOLS, answer(None, finish="tool_calls", **call(arguments="")), None),
        (TOOLS, answer(None, finish="tool_calls", **call(name="rm")), "invalid_tool_call"),
        (TOOLS, answer(None, finish="tool_calls", **call(arguments="{word")), "invalid_tool_call"),
        (TOOLS, answer(None, finish="tool_calls", **call(arguments="[1]")), "invalid_tool_call"),
        (TOOLS, answer(finish="tool_calls"), "missing_tool_call"),
        (TOOLS | {"tool_choice": "required"}, answer(), "missing_tool_call"),
        (TOOLS | {"tool_choice": "auto"}, answer(), None),
        ({}, answer("again " * 200), "repetitive"),
    ],
)
def test_marks(body: dict[str, Any], given: dict[str, Any], mark: str | None) -> None:
    found = judged(body, given)
    assert found.marks == (() if mark is None else (mark,))
    assert (found.quality == 1.0) is (mark is None)


def test_what_the_requester_cut_himself_is_no_fault() -> None:
    for facts in ({"completion_tokens": 95}, {"cut_by_us": True}):
        assert judged(JSON, answer('{"a": ', finish="length"), **facts).quality == 1.0
    assert judged(JSON, answer('{"a": ', finish="length")).quality < 0.5


def test_a_lie_and_an_empty_answer_are_worth_little() -> None:
    assert judged({}, answer(), exaggerated=True).quality == 0.0
    assert judged({}, answer(""), delivered=False).marks == ("empty",)


@pytest.mark.parametrize("period", [1, 3, 17, 100, 240])
def test_repetition_is_found_whatever_its_length(period: int) -> None:
    chance = random.Random(period)
    unit = "".join(chance.choice("abcdefgh ") for _ in range(period))
    assert repeats("A beginning that is fine. " + unit * (2_000 // period + 1))


def test_ordinary_text_does_not_repeat() -> None:
    chance = random.Random(7)
    words = [f"w{number}" for number in range(50)]
    assert not repeats(" ".join(chance.choice(words) for _ in range(2_000)))
    assert not repeats("na " * 100)
    assert not repeats("")


OWNERS = [UUID(int=number) for number in range(9)]


def test_the_tolerance_follows_the_middle_of_the_owners_within_bounds() -> None:
    learnt = Tolerance(25)
    assert learnt.percent("m") == 25
    for owner in OWNERS[:2]:
        learnt.learn("m", owner, 100, 110)
    assert learnt.percent("m") == 25  # two are no middle
    learnt.learn("m", OWNERS[2], 100, 300)
    assert learnt.percent("m") == 25  # 10 % and the margin of 15; the liar moves nothing
    for owner in OWNERS[:2]:
        for _ in range(200):
            learnt.learn("m", owner, 100, 100)
    assert learnt.percent("m") == 15
    for owner in OWNERS:
        learnt.learn("bound", owner, 100, 900)
    assert learnt.percent("bound") == 50
    assert learnt.percent("other") == 25


def test_one_owner_is_one_voice_and_short_answers_tell_nothing() -> None:
    learnt = Tolerance(25)
    for _ in range(500):
        learnt.learn("m", OWNERS[0], 100, 300)
    for owner in OWNERS[1:4]:
        learnt.learn("m", owner, 100, 100)
        learnt.learn("m", owner, 3, 30)
        learnt.learn("m", owner, 100, None)
    assert learnt.percent("m") == 15
