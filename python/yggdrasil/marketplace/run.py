"""One running request, as its reader holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from yggdrasil.kernel import Network
from yggdrasil.marketplace.pipe import Pipe
from yggdrasil.marketplace.requests import ComputeRequest, State
from yggdrasil.marketplace.segments import Kind, Segment, broken, mark
from yggdrasil.marketplace.waiting import Turns


@dataclass(frozen=True, slots=True)
class Chunk:
    """One `chat.completion.chunk`, as JSON."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Mark(Chunk):
    """The chunk between two segments of an answer."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Finished:
    """The last part of every run that did not fail: the answer whole, what was used and what it cost."""

    transaction_id: UUID
    state: State
    answer: dict[str, Any]
    prompt_tokens: int
    completion_tokens: int
    cost_microcents: int
    tokenizer: str
    """What the tokens were counted with: the model's own, or the name of a vocabulary."""
    attempts: int
    latency_ms: int | None
    model_choice: dict[str, Any] | None = None
    segments: tuple[Segment, ...] = ()
    """Those that broke off before the last one."""

    def told(self) -> dict[str, Any]:
        """What else the requester is told of how it was served and counted."""
        told: dict[str, Any] = {"tokenizer": self.tokenizer}
        if self.model_choice is not None:
            told["model_choice"] = self.model_choice
        if self.segments:
            told["broken_segments"] = [segment.told() for segment in self.segments]
        return told

    def usage(self) -> dict[str, Any]:
        """The `usage` object of the OpenAI API."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def whole(self) -> dict[str, Any]:
        """The answer with its usage and what that was counted with."""
        usage = self.usage()
        if self.answer.get("object") == "list":
            del usage["completion_tokens"]
        return {**self.answer, "usage": usage, "yggdrasil": {"tokenizer": self.tokenizer}}


Part = Chunk | Finished


@dataclass(slots=True, eq=False)
class Run:
    """A request on its way. Read it with `parts()`; leave it with `close()`, which cancels what is not done.

    A caller who only wants the outcome awaits `outcome()`.
    """

    scope: Network
    request: ComputeRequest
    transaction_id: UUID
    created_at: datetime
    deadline_at: datetime
    deadline_monotonic: float
    prompt_tokens: int
    pipe: Pipe[Part] = field(default_factory=Pipe)
    tried: set[UUID] = field(default_factory=set)
    attempts: int = 0
    cancelled: bool = False
    done: bool = False
    booked: bool = False
    """Its end is in the books."""
    model_choice: dict[str, Any] | None = None
    """Why this model, if the requester left it to us."""
    segments: list[Segment] = field(default_factory=list)
    """What providers delivered that broke off, while others go on."""
    mark: Mark | None = None
    """What the reader is told before the next chunk."""
    stop_job: Callable[[], None] | None = None
    waits: int = 0
    """How often it had to wait in the queue."""
    waited_seconds: float = 0.0
    """For how long, in all."""
    refusals: int = 0
    """Attempts that a device answered `busy`."""
    turns: Turns = field(default_factory=dict)
    """Where it stood in the queue when its turn came last."""

    @property
    def arrived_monotonic(self) -> float:
        """When it came."""
        return self.deadline_monotonic - self.request.wishes.deadline_seconds

    def broke_off(self, attempt: int, answer: dict[str, Any], tokens: int) -> bool:
        """A provider left in the middle; True if another one may go on or start anew."""
        segment = broken(self.request.wishes.on_break, attempt, answer, tokens)
        if segment is None:
            return False
        self.segments.append(segment)
        return True

    def goes_on(self, answer: dict[str, Any], attempt: int) -> None:
        """The next attempt begins; if there was a break, the reader is told before its first chunk."""
        if self.segments:
            kind: Kind = "resumed" if self.segments[-1].kept else "restarted"
            self.mark = Mark(mark(answer, kind, attempt), kind)

    def resumed(self) -> list[Segment]:
        """The segments that the next provider goes on from."""
        return [segment for segment in self.segments if segment.kept]

    def asked_tokens(self) -> int:
        """What a provider is given: the prompt, and the text of those before it."""
        return self.prompt_tokens + sum(segment.tokens for segment in self.resumed())

    def cancel(self) -> None:
        """Stop the provider. What was delivered is paid for; the rest of the hold is given back."""
        if not self.done:
            self.cancelled = True
            if self.stop_job is not None:
                self.stop_job()

    def close(self) -> None:
        """The reader is gone."""
        # Also when all is done but the last word: a full pipe must not keep the run waiting for nobody.
        self.pipe.leave()
        self.cancel()

    async def parts(self) -> AsyncIterator[Part]:
        """Chunks as they come, then Finished; raises what ended the run otherwise."""
        while (part := await self.pipe.get()) is not None:
            yield part

    async def outcome(self) -> Finished:
        """Only the end."""
        last: Finished | None = None
        try:
            while (part := await self.pipe.get()) is not None:
                last = part if isinstance(part, Finished) else None
        finally:
            self.close()
        if last is None:
            raise RuntimeError("a run ended without an outcome")
        return last
