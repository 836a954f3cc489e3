"""One upstream: it takes a job as a device does, and gives the same events, but is asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final
from uuid import UUID, uuid5

import structlog

from yggdrasil.bifrost.protocol import Accepted, Busy, Chunks, Done, Fault, Job, JobEvent
from yggdrasil.errors import Conflict, NotFound
from yggdrasil.kernel import PLATFORM_NETWORK
from yggdrasil.marketplace.jobs import JobLink
from yggdrasil.marketplace.pipe import Pipe
from yggdrasil.marketplace.requests import Kind, Offer
from yggdrasil.marketplace.upstream_settings import KeyedUpstream
from yggdrasil.vedrfolnir.backend import Backend, BackendError, Usage

EVENTS_WAITING_MAX: Final = 16
"""Of one job, until its reader takes them; then the upstream waits, and so does its socket."""
HEALTH_SECONDS_MAX: Final = 5.0
CONNECTIONS_SPARE: Final = 4
MEASURED_LATENCY_MS: Final = 1_000
"""A first guess; the first answers correct it."""

_BUSY: Final = (429, 503)
_NO_MODEL_LIST: Final = (404, 405, 501)

_log = structlog.get_logger("yggdrasil.upstreams")

Presence = Callable[[UUID, UUID, bool], None]


def platform_id(text: str) -> UUID:
    """An id of the platform's own. Made of its name, because every server and every boot must make the same
    one without asking, and what was learnt of an offer must outlive a restart."""
    return uuid5(PLATFORM_NETWORK, text)


class UpstreamJob:
    """A job at an upstream, as the marketplace holds it. See `bifrost.jobs.JobLink`."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._pipe: Pipe[JobEvent] = Pipe(EVENTS_WAITING_MAX)
        self._ended = ended
        self._task: asyncio.Task[None] | None = None
        self._taken = False

    def begin(self, work: Coroutine[Any, Any, JobEvent]) -> None:
        """`work` puts its events with `put` and gives the last one."""
        self._task = asyncio.create_task(self._to_its_end(work), name="upstream: job")
        # Also a task that is cancelled before its first step gives its place back.
        self._task.add_done_callback(lambda _: self._over(work))

    async def put(self, event: JobEvent) -> None:
        """Waits for a reader who is slow."""
        await self._pipe.put(event)

    def __aiter__(self) -> AsyncGenerator[JobEvent, None]:
        if self._taken:
            raise Conflict("a job can be iterated once")
        self._taken = True
        return self._events()

    def cancel(self) -> None:
        """Hang up; the iteration ends without a last event. Idempotent."""
        self._pipe.leave()
        if self._task is not None:
            self._task.cancel()

    async def closed(self) -> None:
        """Wait until nothing of it runs any more."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _events(self) -> AsyncGenerator[JobEvent, None]:
        try:
            while (event := await self._pipe.get()) is not None:
                yield event
        finally:
            self.cancel()

    async def _to_its_end(self, work: Coroutine[Any, Any, JobEvent]) -> None:
        try:
            last = await work
        except Exception:
            _log.exception("an upstream's job failed")
            last = Fault("internal")
        await self._pipe.put(last)

    def _over(self, work: Coroutine[Any, Any, JobEvent]) -> None:
        work.close()
        self._pipe.end()
        self._ended()


async def _busy() -> JobEvent:
    return Busy()


class UpstreamProvider:
    """One upstream: its connections, its slots, and whether it is there."""

    def __init__(self, keyed: KeyedUpstream, presence: Presence) -> None:
        settings = keyed.settings
        self.settings = settings
        self.device = platform_id(f"upstream/{settings.name}")
        self._presence = presence
        self._names = {(model.kind, model.model): model.name_there for model in settings.models}
        self._backend = Backend(
            settings.base_url, keyed.api_key, connections_max=settings.capacity_jobs + CONNECTIONS_SPARE
        )
        self._jobs: set[UpstreamJob] = set()
        self._health: asyncio.Task[None] | None = None
        self.online = False

    def offers(self) -> list[Offer]:
        """What the file says of its models, as offers of the platform's network."""
        settings = self.settings
        return [
            Offer(
                network_id=PLATFORM_NETWORK,
                id=platform_id(f"offer/{settings.name}/{model.kind}/{model.model}"),
                provider=platform_id(f"provider/{settings.name}"),
                user_id=platform_id("operator"),
                device=self.device,
                audience="market",
                status="active",
                model=model.model,
                kind=model.kind,
                price_cents=model.price_cents,
                price_unit_tokens=model.price_unit_tokens,
                rounding=model.rounding,
                context_tokens_max=model.context_tokens_max,
                capacity_jobs=settings.capacity_jobs,
                world="asgard",
                memory_gib=0,
                measured_latency_ms=MEASURED_LATENCY_MS,
                measured_tokens_per_second=0,
                parameters=tuple(sorted(model.supported_parameters)),
            )
            for model in settings.models
        ]

    def open_job(self, job: Job) -> JobLink:
        """See `Jobs`; busy if its slots are taken."""
        kind: Kind = "embeddings" if job.kind == "embeddings" else "chat"
        name_there = self._names.get((kind, job.model))
        if name_there is None or not self.online:
            raise NotFound
        link = UpstreamJob(lambda: self._jobs.discard(link))
        full = len(self._jobs) >= self.settings.capacity_jobs
        self._jobs.add(link)
        link.begin(_busy() if full else self._work(link, job, name_there))
        return link

    async def _work(self, link: UpstreamJob, job: Job, name_there: str) -> JobEvent:
        try:
            async with asyncio.timeout(job.deadline_ms / 1000):
                usage = await self._answer(link, job, name_there)
        except TimeoutError:
            return Fault("timeout", "the deadline passed")
        except BackendError as error:
            if error.code == "backend_unreachable":
                # Offline until it answers again: no other job needs to find that out.
                self._set_online(False, error)
            return Busy() if error.status in _BUSY else Fault(error.code, error.message)
        return Done({"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens})

    async def _answer(self, link: UpstreamJob, job: Job, name_there: str) -> Usage:
        if job.kind == "embeddings":
            raw, usage = await self._backend.embeddings(job.body, name_there)
            await link.put(Accepted())
            await link.put(Chunks([raw]))
            return usage
        usage = Usage(0, 0)
        accepted = False
        # Closed by name: a job that is cancelled must end the upstream's work at once.
        async with aclosing(self._backend.chat(job.body, name_there)) as parts:
            async for part in parts:
                if not accepted:
                    accepted = True
                    await link.put(Accepted())
                if isinstance(part, Usage):
                    usage = part
                else:
                    await link.put(Chunks(part))
        return usage

    async def start(self) -> None:
        """Begin to look whether it is there."""
        self._health = asyncio.create_task(self._watch(), name=f"upstream: {self.settings.name}")

    async def stop(self) -> None:
        """Hang up everything."""
        if self._health is not None:
            self._health.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._health
        jobs = list(self._jobs)
        for link in jobs:
            link.cancel()
        for link in jobs:
            await link.closed()
        await self._backend.close()

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(HEALTH_SECONDS_MAX):
                    await self._backend.models()
                self._set_online(True, None)
            except TimeoutError:
                self._set_online(False, BackendError("backend_timeout", "the backend is silent"))
            except BackendError as error:
                # A server without a list of its models is there all the same.
                self._set_online(error.status in _NO_MODEL_LIST, error)
            except Exception:
                # A bug of ours must not end the looking: what is not seen again would be away for ever.
                _log.exception("an upstream could not be looked at", name=self.settings.name)
                self._set_online(False, BackendError("internal", "it could not be looked at"))
            await asyncio.sleep(self.settings.health_seconds)

    def _set_online(self, online: bool, error: BackendError | None) -> None:
        if online == self.online:
            return
        self.online = online
        # The message holds the status alone, nothing that the upstream wrote, and never its key.
        if online:
            _log.info("upstream is there", name=self.settings.name)
        else:
            _log.warning("upstream is away", name=self.settings.name, why=error.message if error else "")
        self._presence(PLATFORM_NETWORK, self.device, online)
