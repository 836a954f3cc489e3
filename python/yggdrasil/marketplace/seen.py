"""What is known of an attempt when it is over. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


class Seen(Protocol):
    """What is learnt from one attempt."""

    @property
    def end(self) -> str: ...
    @property
    def delivered(self) -> bool: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def first_chunk_ms(self) -> int | None: ...
    @property
    def tokens_per_second(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An ended attempt, or a canary job, read back when the server starts."""

    offer: UUID
    owner: UUID
    model: str | None
    end: str
    observed_tokens: int | None
    claimed_tokens: int | None
    quality: float | None
    """None if nothing was judged: it did not complete, or it ended before judgements were kept."""
    error_code: str | None
    first_chunk_ms: int | None
    tokens_per_second: int | None
    ended_at: datetime
    canary: bool

    @property
    def delivered(self) -> bool:
        return bool(self.observed_tokens)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an offer stands: shares are 0 to 1."""

    quality: float
    availability: float
    latency_ms: float
    tokens_per_second: float
    weight: float
    """How many recent observations of its quality this rests on."""
