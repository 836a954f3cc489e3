"""The connection test of a registration: a real job on the device, measured to its first byte and to its
end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from yggdrasil import heidrun
from yggdrasil.bifrost.hub import Hub
from yggdrasil.bifrost.jobs import JobLink
from yggdrasil.bifrost.protocol import Busy, Chunks, Done, Fault, Job
from yggdrasil.errors import Conflict, NotFound, ProviderFailed
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.marketplace.answers import BadAnswerError, ChatAnswer, EmbeddingsAnswer
from yggdrasil.marketplace.requests import Kind, Offer

PROMPT: Final = "Reply with the single word: ready"
OUTPUT_TOKENS_MAX: Final = 16
NO_TRANSACTION: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Measured:
    """Time to the first byte, and tokens (of the answer, or of the embedded prompt) in a second."""

    latency_ms: int
    tokens_per_second: int


class Probe:
    """Tests devices. It costs nobody anything and stands in no ledger."""

    def __init__(self, hub: Hub, clock: Clock, ids: IdSource, seconds: float) -> None:
        self._hub = hub
        self._clock = clock
        self._ids = ids
        self._seconds = seconds

    async def measure(self, offer: Offer) -> Measured:
        """Raises Conflict if the device is offline or busy, ProviderFailed naming the model if it cannot
        answer."""
        body: dict[str, Any] = {"model": offer.model}
        if offer.kind == "chat":
            body["messages"] = [{"role": "user", "content": PROMPT}]
            body |= {"stream": True, "max_tokens": OUTPUT_TOKENS_MAX}
        else:
            body["input"] = [PROMPT]
        job = Job(
            job_id=self._ids.uuid(),
            kind=offer.kind,
            model=offer.model,
            body=msgspec.json.encode(body),
            deadline_ms=int(self._seconds * 1000),
        )
        try:
            link = self._hub.open_job(offer.network_id, offer.device, job)
        except NotFound:
            raise Conflict(
                "device_id: the device must be online to be registered", field="device_id"
            ) from None
        try:
            async with asyncio.timeout(self._seconds):
                return await self._follow(link, offer)
        except TimeoutError:
            raise self._failed(offer, "it did not answer in time") from None
        except BadAnswerError as error:
            raise self._failed(offer, str(error)) from None
        finally:
            link.cancel()

    async def _follow(self, link: JobLink, offer: Offer) -> Measured:
        started = self._clock.monotonic()
        first: float | None = None
        answer = _Answer(offer.kind, offer.model)
        async with aclosing(aiter(link)) as events:
            async for event in events:
                match event:
                    case Chunks(parts=parts):
                        first = first if first is not None else self._clock.monotonic()
                        for part in parts:
                            answer.take(part)
                    case Busy():
                        raise Conflict("The device is busy; register it when it is idle", field="device_id")
                    case Fault(code=code):
                        raise self._failed(offer, code)
                    case Done():
                        tokens = answer.tokens()
                        if tokens == 0:
                            raise self._failed(offer, "its answer is empty")
                        ended = self._clock.monotonic()
                        first = first if first is not None else ended
                        seconds = max(ended - started, 0.001)
                        return Measured(round((first - started) * 1000), round(tokens / seconds))
        raise self._failed(offer, "it broke off")

    def _failed(self, offer: Offer, why: str) -> ProviderFailed:
        return ProviderFailed(f"The test of model {offer.model} on the device failed: {why}", field="models")


class _Answer:
    """Reads a test's answer with the same eyes as a paid one."""

    def __init__(self, kind: Kind, model: str) -> None:
        self._model = model
        self._chat: ChatAnswer | None = None
        self._vectors: EmbeddingsAnswer | None = None
        if kind == "chat":
            self._chat = ChatAnswer(NO_TRANSACTION, model, 0, heidrun.Counter(model), 2**31)
        else:
            self._vectors = EmbeddingsAnswer(model, 1, None)

    def take(self, part: bytes) -> None:
        if self._chat is not None:
            self._chat.take(part)
        elif self._vectors is not None:
            self._vectors.take(part)

    def tokens(self) -> int:
        if self._vectors is not None:
            self._vectors.check()
            return heidrun.count(self._model, PROMPT)
        return self._chat.observed_tokens if self._chat is not None else 0
