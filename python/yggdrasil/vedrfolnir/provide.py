"""Sells a local model: takes compute jobs from the connection and has the backend do them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Literal

from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import Clock, SystemClock
from yggdrasil.vedrfolnir.backend import Backend, BackendError, Usage
from yggdrasil.vedrfolnir.links import Job
from yggdrasil.wire.limits import PAYLOAD_BYTES_MAX

Kind = Literal["chat", "embeddings"]

CAPACITY_JOBS_MAX: Final = 1_024
FRAME_BYTES_MAX: Final = 60 * 1024
"""An embeddings answer is cut into frames of this size."""


@dataclass(frozen=True, slots=True)
class Served:
    """One job as it ended: `outcome` is done, busy, cancelled, or the code of a fault."""

    job_id: str
    kind: str
    model: str
    outcome: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


class Provider:
    """Handles jobs: `connection.on_job(provider.handle)`.

    `models`: name -> kind. `capacity_jobs`: more at a time are answered `busy`, so that the server asks
    another provider. `on_served` hears of each job once it has ended.
    """

    def __init__(
        self,
        backend: Backend,
        models: Mapping[str, Kind],
        *,
        capacity_jobs: int = 1,
        clock: Clock | None = None,
        on_accepted: Callable[[str, str], None] | None = None,
        on_served: Callable[[Served], None] | None = None,
    ) -> None:
        if not models:
            raise InvalidInput("model: at least one is needed", field="model")
        if not 1 <= capacity_jobs <= CAPACITY_JOBS_MAX:
            raise InvalidInput(f"capacity: must be 1 to {CAPACITY_JOBS_MAX}", field="capacity")
        self._backend = backend
        self._models = dict(models)
        self._capacity_jobs = capacity_jobs
        self._clock = clock or SystemClock()
        self._on_accepted = on_accepted or (lambda _kind, _model: None)
        self._on_served = on_served or (lambda _served: None)
        self.active_jobs = 0

    async def handle(self, job: Job) -> None:
        """Do one job to its end."""
        if self.active_jobs >= self._capacity_jobs:
            job.busy(f"all {self._capacity_jobs} slots are taken")
            self._on_served(Served(job.job_id, job.kind, job.model, "busy"))
            return
        self.active_jobs += 1
        started = self._clock.monotonic()
        outcome, usage = "cancelled", Usage(0, 0)
        try:
            job.accept()
            self._on_accepted(job.kind, job.model)
            outcome, usage = await self._work(job)
        finally:
            self.active_jobs -= 1
            self._on_served(
                Served(
                    job.job_id,
                    job.kind,
                    job.model,
                    outcome,
                    usage.prompt_tokens,
                    usage.completion_tokens,
                    self._clock.monotonic() - started,
                )
            )

    async def _work(self, job: Job) -> tuple[str, Usage]:
        try:
            async with asyncio.timeout(job.deadline_ms / 1000):
                if self._models.get(job.model) != job.kind:
                    raise BackendError("not_found", "this device does not serve that model")
                body = await job.body()
                usage = await (self._chat if job.kind == "chat" else self._embeddings)(job, body)
        except BackendError as failure:
            job.fault(failure.code, failure.message)
            return failure.code, Usage(0, 0)
        except TimeoutError:
            job.fault("timeout", "the deadline passed")
            return "timeout", Usage(0, 0)
        job.done(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens)
        return "done", usage

    async def _chat(self, job: Job, body: bytes) -> Usage:
        usage = Usage(0, 0)
        # Closed by name: a cancelled job must end the work at once, not when memory is next swept.
        async with aclosing(self._backend.chat(body, job.model)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, Usage):
                    usage = chunk
                else:
                    for frame in together(chunk):
                        await job.send(frame)
        return usage

    async def _embeddings(self, job: Job, body: bytes) -> Usage:
        raw, usage = await self._backend.embeddings(body, job.model)
        for start in range(0, len(raw), FRAME_BYTES_MAX):
            await job.send(raw[start : start + FRAME_BYTES_MAX])
        return usage


def together(documents: Sequence[bytes]) -> Iterator[bytes]:
    """Frames for chunks that came at the same time: one alone as it is, several as a JSON array.

    A frame costs each end of the socket and the relay more than the few bytes of a token in it do.
    """
    start = size = 0
    for number, document in enumerate(documents):
        if size and size + len(document) + 2 > PAYLOAD_BYTES_MAX:
            yield _frame(documents[start:number])
            start, size = number, 0
        size += len(document) + 1
    if documents:
        yield _frame(documents[start:])


def _frame(documents: Sequence[bytes]) -> bytes:
    return documents[0] if len(documents) == 1 else b"[" + b",".join(documents) + b"]"
