"""An answer in several segments: a provider broke off after its first chunk, another goes on or starts anew.
No I/O.

Each segment is an attempt of its own, with its own offer and its own record. A provider that broke off is
paid nothing. Whoever resumes is given the text so far as part of its prompt and is paid for what it was given
and what it wrote; whoever restarts is paid for the prompt and what it wrote. So no token is billed twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from yggdrasil.errors import LimitReached
from yggdrasil.marketplace.wishes import OnBreak

BREAK_SECONDS: Final = 3_600.0

Kind = Literal["resumed", "restarted"]


@dataclass(frozen=True, slots=True)
class Segment:
    """What a provider that broke off had delivered."""

    attempt: int
    answer: dict[str, Any]
    tokens: int
    kept: bool
    """Its text is part of the answer: the next one resumed."""

    def told(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt,
            "completion_tokens": self.tokens,
            "kept": self.kept,
            "cost_microcents": 0,
        }


def text_of(answer: dict[str, Any]) -> str | None:
    """The text that another provider can go on from; None if there is more to the answer than text."""
    if len(answer.get("choices", ())) != 1:
        return None
    message = answer["choices"][0]["message"]
    if message.get("tool_calls") or message.get("refusal") or not message.get("content"):
        return None
    text: str = message["content"]
    return text


def broken(on_break: OnBreak, attempt: int, answer: dict[str, Any], tokens: int) -> Segment | None:
    """The segment that another one follows; None if the requester wants no more, or nobody can go on."""
    if on_break == "restart":
        return Segment(attempt, answer, tokens, kept=False)
    if on_break == "resume" and text_of(answer) is not None:
        return Segment(attempt, answer, tokens, kept=True)
    return None


def joined(segments: list[Segment], last: dict[str, Any]) -> dict[str, Any]:
    """The answer as its reader has it: the segments that were kept, and the last one."""
    kept = [segment.answer["choices"][0] for segment in segments if segment.kept]
    if not kept or len(last.get("choices", ())) != 1:
        return last
    choice = last["choices"][0]
    message = dict(choice["message"])
    for name in ("content", "reasoning_content"):
        text = "".join(one["message"].get(name) or "" for one in [*kept, choice])
        if text or name in message:
            message[name] = text
    logprobs = [one["logprobs"] for one in [*kept, choice] if one.get("logprobs")]
    merged = None
    if logprobs:
        merged = {
            name: [item for one in logprobs for item in one.get(name) or ()] or None
            for name in ("content", "refusal")
        }
    return {**last, "choices": [{**choice, "message": message, "logprobs": merged}]}


def mark(answer: dict[str, Any], kind: Kind, attempt: int) -> bytes:
    """The chunk that stands between two segments: no choices, and what happened."""
    return msgspec.json.encode(
        {
            "id": answer["id"],
            "object": "chat.completion.chunk",
            "created": answer["created"],
            "model": answer["model"],
            "choices": [],
            "yggdrasil": {"segment": {"kind": kind, "attempt": attempt}},
        }
    )


class Breaks:
    """Counts the market's answers that broke off after their first chunk, by requester. What was delivered of
    them is not paid for: without a limit, whoever can crash backends would have text for nothing."""

    def __init__(self, most_per_hour: int) -> None:
        self._most = most_per_hour
        self._at: dict[UUID, deque[float]] = {}

    def count(self, network_id: UUID, now: float) -> None:
        times = self._at.setdefault(network_id, deque(maxlen=self._most))
        times.append(now)

    def recall(self, broken: Iterable[tuple[UUID, float]], now: float) -> None:
        """What earlier boots counted: (requester, seconds ago), the oldest first."""
        for network_id, seconds in broken:
            self.count(network_id, now - seconds)

    def check(self, network_id: UUID, now: float) -> None:
        """LimitReached if there were too many within an hour."""
        times = self._at.get(network_id)
        if times is None:
            return
        while times and times[0] <= now - BREAK_SECONDS:
            times.popleft()
        if not times:
            del self._at[network_id]
        elif len(times) >= self._most:
            raise LimitReached(
                f"{self._most} answers of the market broke off within an hour, and were not paid for",
                retry_after_seconds=max(1, round(times[0] + BREAK_SECONDS - now)),
            )

    def forget(self, now: float) -> None:
        """Drop those whose last break is over an hour ago."""
        for network_id in [one for one, times in self._at.items() if times[-1] <= now - BREAK_SECONDS]:
            del self._at[network_id]
