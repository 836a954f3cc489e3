"""Pure: how good an answer was, told from the answer alone. No I/O, no clock, no model.

Everything here is deterministic and says why: an answer is 1.0 unless a mark lowers it. What the requester
caused (his own cap cut it, his own words asked for it) is no mark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

TAIL_CHARACTERS: Final = 2_000
REPEATED_CHARACTERS_MIN: Final = 400
REPEATS_MIN: Final = 8
CAP_PERCENT: Final = 80

WORTH: Final[Mapping[str, float]] = {
    "exaggerated": 0.0,
    "empty": 0.2,
    "invalid_json": 0.2,
    "invalid_tool_call": 0.2,
    "missing_tool_call": 0.3,
    "truncated": 0.4,
    "repetitive": 0.4,
}
"""What an answer with that mark is worth; the lowest counts."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`quality` is 0 to 1; `marks` name what lowered it."""

    quality: float
    marks: tuple[str, ...]


def judge(
    body: Mapping[str, Any],
    answer: Mapping[str, Any],
    *,
    delivered: bool,
    exaggerated: bool,
    completion_tokens: int,
    output_tokens_max: int | None,
    cut_by_us: bool = False,
) -> Judgement:
    """A completed answer to the request `body`. `completion_tokens`: what we counted; `output_tokens_max`:
    what the provider was asked for at most; `cut_by_us`: it was not the provider who ended it."""
    marks = []
    if exaggerated:
        marks.append("exaggerated")
    if not delivered:
        marks.append("empty")
    choices: Sequence[Mapping[str, Any]] = answer.get("choices", ())
    at_cap = cut_by_us or (
        output_tokens_max is not None and completion_tokens * 100 >= output_tokens_max * CAP_PERCENT
    )
    for choice in choices if delivered else ():
        marks += _marks_of(body, choice, at_cap=at_cap)
    return Judgement(min((WORTH[mark] for mark in marks), default=1.0), tuple(dict.fromkeys(marks)))


def _marks_of(body: Mapping[str, Any], choice: Mapping[str, Any], *, at_cap: bool) -> list[str]:
    message = choice["message"]
    text, calls = message.get("content") or "", message.get("tool_calls") or ()
    if at_cap:
        # The end is missing by order: whether it would have been whole, nobody knows.
        return ["repetitive"] if repeats(text) else []
    marks = []
    if choice.get("finish_reason") == "length" or (not calls and text.count("```") % 2):
        marks.append("truncated")
    if repeats(text):
        marks.append("repetitive")
    if text and not calls and _wants_json(body) and not _is_json(text):
        marks.append("invalid_json")
    declared = {tool["function"]["name"] for tool in body.get("tools") or ()}
    if any(not _is_call(call["function"], declared) for call in calls):
        marks.append("invalid_tool_call")
    wanted = body.get("tool_choice")
    must_call = wanted == "required" or isinstance(wanted, Mapping)
    if not calls and (must_call or choice.get("finish_reason") == "tool_calls"):
        marks.append("missing_tool_call")
    return marks


def _wants_json(body: Mapping[str, Any]) -> bool:
    form = body.get("response_format")
    return isinstance(form, Mapping) and form.get("type") in ("json_object", "json_schema")


def _is_json(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict | list)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False


def _is_call(function: Mapping[str, Any], declared: set[str]) -> bool:
    if function["name"] not in declared:
        return False
    try:
        return isinstance(msgspec.json.decode(function["arguments"] or "{}"), dict)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False


def repeats(text: str) -> bool:
    """Whether the end of a text says the same again and again: at least eight times and over at least half of
    its last 2,000 characters. By the prefix function (Knuth, Morris and Pratt 1977) of the text read
    backwards, whose periods are those of its ends."""
    tail = text[-TAIL_CHARACTERS:][::-1]
    least = max(REPEATED_CHARACTERS_MIN, len(tail) // 2)
    if len(tail) < least:
        return False
    borders = [0] * len(tail)
    border = 0
    for place in range(1, len(tail)):
        while border and tail[place] != tail[border]:
            border = borders[border - 1]
        border += tail[place] == tail[border]
        borders[place] = border
        length = place + 1
        if length >= least and (length - border) * REPEATS_MIN <= length:
            return True
    return False
