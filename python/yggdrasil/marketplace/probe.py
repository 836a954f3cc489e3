"""A job that nobody asked for: the connection test of a registration, and the canaries.

It runs on the device like any other and its answer is read with the same eyes. It costs nobody anything and
stands in no ledger.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from yggdrasil import heidrun
from yggdrasil.bifrost.protocol import Busy, Chunks, Done, Fault, Job
from yggdrasil.errors import Conflict, NotFound
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.marketplace.answers import BadAnswerError, ChatAnswer
from yggdrasil.marketplace.billing import Count
from yggdrasil.marketplace.bodies import ChatBody, EmbeddingsBody, Message, chat_request, embeddings_request
from yggdrasil.marketplace.jobs import JobLink, Jobs
from yggdrasil.marketplace.requests import ComputeRequest, Kind, Offer, Wishes
from yggdrasil.marketplace.vectors import EmbeddingsAnswer
from yggdrasil.marketplace.verdicts import Facts

PROMPT: Final = "Reply with the single word: ready"
OUTPUT_TOKENS_MAX: Final = 16
NO_TRANSACTION: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Tried:
    """How such a job ended. `why` is for the provider's own people."""

    end: Literal["completed", "busy", "failed"]
    count: Count
    answer: dict[str, Any]
    delivered: bool = False
    error_code: str | None = None
    why: str = ""
    first_chunk_ms: int | None = None
    total_ms: int = 0

    @property
    def tokens(self) -> int:
        """Of the answer, or of what was embedded."""
        return self.count.completion_observed or (self.count.prompt_observed if self.delivered else 0)

    @property
    def tokens_per_second(self) -> int | None:
        """Of a completed answer, the wait before it included."""
        if self.end != "completed" or not self.tokens:
            return None
        return round(self.tokens * 1000 / max(self.total_ms, 1))


def plain_request(model: str, kind: Kind, prompt: str, output_tokens_max: int) -> ComputeRequest:
    """A request as anybody could send it."""
    if kind == "embeddings":
        return embeddings_request(EmbeddingsBody(model, [prompt]), Wishes())
    body = ChatBody(model=model, messages=[Message("user", prompt)], max_tokens=output_tokens_max)
    return chat_request(body, Wishes())


class Probe:
    """Runs such jobs, each for at most `seconds`."""

    def __init__(self, jobs: Jobs, clock: Clock, ids: IdSource, seconds: float) -> None:
        self._jobs = jobs
        self._clock = clock
        self._ids = ids
        self._seconds = seconds

    async def examine(self, offer: Offer) -> Facts:
        """The test of a registration. Raises Conflict if the device is offline or busy."""
        request = plain_request(offer.model, offer.kind, PROMPT, OUTPUT_TOKENS_MAX)
        tried = await self.try_out(offer, request, deadline_ms=int(self._seconds * 1000))
        if tried.error_code == "offline":
            raise Conflict("device_id: the device must be online to be registered", field="device_id")
        if tried.end == "busy":
            raise Conflict("The device is busy; register it when it is idle", field="device_id")
        answered = tried.end == "completed" and tried.delivered
        return Facts(
            model=offer.model,
            kind=offer.kind,
            answered=answered,
            why="" if answered else tried.why or "its answer is empty",
            latency_ms=tried.first_chunk_ms,
            tokens_per_second=tried.tokens_per_second,
            observed_tokens=tried.count.observed,
            claimed_tokens=tried.count.claimed,
        )

    async def try_out(self, offer: Offer, request: ComputeRequest, *, deadline_ms: int) -> Tried:
        """Run a request on an offer. Never raises for what the provider does."""
        trial = _Trial(offer, request, self._clock)
        body: dict[str, Any] = {"model": offer.model, **request.body}
        if request.kind == "chat":
            body |= {"stream": True, "max_tokens": request.output_tokens_max}
        job = Job(
            job_id=self._ids.uuid(),
            kind=offer.kind,
            model=offer.model,
            body=msgspec.json.encode(body),
            deadline_ms=deadline_ms,
        )
        try:
            link = self._jobs.open_job(offer.network_id, offer.device, job)
        except NotFound:
            return trial.ended("failed", "offline", "it is offline")
        try:
            async with asyncio.timeout(self._seconds):
                return await trial.follow(link)
        except TimeoutError:
            return trial.ended("failed", "timeout", "it did not answer in time")
        except BadAnswerError as error:
            return trial.ended("failed", "bad_answer", str(error))
        finally:
            link.cancel()


class _Trial:
    """One such job and its answer."""

    def __init__(self, offer: Offer, request: ComputeRequest, clock: Clock) -> None:
        self._request = request
        self._clock = clock
        self._started = clock.monotonic()
        self._first: float | None = None
        self._prompt_tokens = request.prompt_tokens()
        self._chat: ChatAnswer | None = None
        self._vectors: EmbeddingsAnswer | None = None
        if request.kind == "chat":
            self._chat = ChatAnswer(NO_TRANSACTION, offer.model, 0, heidrun.Counter(offer.model), 2**31)
        else:
            self._vectors = EmbeddingsAnswer(offer.model, request.inputs, None)

    async def follow(self, link: JobLink) -> Tried:
        async with aclosing(aiter(link)) as events:
            async for event in events:
                match event:
                    case Chunks(parts=parts):
                        self._first = self._first if self._first is not None else self._clock.monotonic()
                        self._take(parts)
                        if self._chat is not None and self._chat.cut:
                            return self.ended("completed")
                    case Busy():
                        return self.ended("busy", "busy", "it is busy")
                    case Fault(code=code):
                        return self.ended("failed", code, code)
                    case Done(usage=usage):
                        if self._vectors is not None:
                            self._vectors.check()
                        return self.ended("completed", usage=usage)
        return self.ended("failed", "lost", "it broke off")

    def _take(self, parts: list[bytes]) -> None:
        for part in parts:
            if self._chat is not None:
                self._chat.take(part)
            elif self._vectors is not None:
                self._vectors.take(part)

    def ended(
        self,
        end: Literal["completed", "busy", "failed"],
        error_code: str | None = None,
        why: str = "",
        usage: dict[str, int] | None = None,
    ) -> Tried:
        now = self._clock.monotonic()
        first = self._first if self._first is not None else now if end == "completed" else None
        observed = self._chat.observed_tokens if self._chat is not None else 0
        claims = usage or {}
        prompt, completion = claims.get("prompt_tokens"), claims.get("completion_tokens")
        if self._vectors is not None and usage is not None:
            completion = 0
        answer: dict[str, Any] = {}
        if end == "completed":
            source = self._chat if self._chat is not None else self._vectors
            answer = source.whole() if source is not None else {}
        return Tried(
            end=end,
            count=Count(self._prompt_tokens, observed, prompt, completion),
            answer=answer,
            delivered=end == "completed" and (self._chat is None or not self._chat.empty),
            error_code=error_code,
            why=why,
            first_chunk_ms=None if first is None else round((first - self._started) * 1000),
            total_ms=round((now - self._started) * 1000),
        )
