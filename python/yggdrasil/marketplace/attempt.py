"""One attempt: a job on a provider's device, its answer checked and passed on as it comes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from yggdrasil import heidrun, tracing
from yggdrasil.bifrost.protocol import Accepted, Busy, Chunks, Done, Fault, Job
from yggdrasil.errors import NotFound, ProviderFailed, Timeout, YggdrasilError
from yggdrasil.kernel import Clock
from yggdrasil.marketplace.answers import BadAnswerError, ChatAnswer
from yggdrasil.marketplace.billing import Budget, Count
from yggdrasil.marketplace.jobs import JobLink, Jobs
from yggdrasil.marketplace.judging import Judgement
from yggdrasil.marketplace.run import Chunk, Run
from yggdrasil.marketplace.segments import text_of
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.marketplace.store_run import NewAttempt
from yggdrasil.marketplace.vectors import EmbeddingsAnswer

AttemptEnd = Literal["completed", "busy", "failed", "cancelled"]


@dataclass(slots=True)
class Outcome:
    """How an attempt ended. `began`: the requester has seen something of it, so no other provider can take
    over."""

    end: AttemptEnd
    began: bool
    delivered: bool
    count: Count
    answer: dict[str, Any]
    error_code: str | None = None
    error: YggdrasilError | None = None
    first_chunk_ms: int | None = None
    tokens_per_second: int | None = None
    judgement: Judgement | None = None

    @property
    def broke(self) -> bool:
        """The provider went away in the middle of what the requester sees."""
        return self.end == "failed" and self.began and self.delivered

    @property
    def retry(self) -> bool:
        """Another provider may take over, unseen."""
        return self.end in ("busy", "failed") and not self.began


def _told(outcome: Outcome) -> dict[tracing.Key, str | int | None]:
    """What its span says of an outcome."""
    return {"yggdrasil.attempt.end": outcome.end, "error.type": outcome.error_code}


class Watch:
    """Stops a job whose provider is silent for too long. Time spent waiting for the reader does not count."""

    def __init__(self, link: JobLink, first_seconds: float, stall_seconds: float) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._first = first_seconds
        self._stall = stall_seconds
        self._last = self._loop.time()
        self._began = False
        self._paused = False
        self.stalled = False
        self._timer = self._loop.call_later(first_seconds, self._look)

    def heard(self) -> None:
        self._began = True
        self._last = self._loop.time()

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._last = self._loop.time()

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        limit = self._stall if self._began else self._first
        left = limit if self._paused else limit - (self._loop.time() - self._last)
        if left <= 0:
            self.stalled = True
            self._link.cancel()
        else:
            self._timer = self._loop.call_later(left, self._look)


class Attempt:
    """Runs one job. `run()` never raises for what a provider does: that is an Outcome."""

    def __init__(
        self, jobs: Jobs, clock: Clock, settings: MarketSettings, run: Run, new: NewAttempt, budget: Budget
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._settings = settings
        self._run = run
        self._new = new
        self._budget = budget
        self._started = clock.monotonic()
        self._first_chunk_at: float | None = None
        request = run.request
        self._chat: ChatAnswer | None = None
        self._vectors: EmbeddingsAnswer | None = None
        if request.kind == "chat":
            self._chat = ChatAnswer(
                run.transaction_id,
                request.model,
                int(run.created_at.timestamp()),
                heidrun.Counter(request.model),
                budget.completion_tokens_max,
                [heidrun.Counter(request.model) for _ in range(request.choices - 1)],
                whole=request.whole,
            )
            if run.resumed():
                self._chat.resume()
        else:
            self._vectors = EmbeddingsAnswer(request.model, request.inputs, request.body.get("dimensions"))

    @tracing.traced("attempt", _told)
    async def run(self) -> Outcome:
        tracing.note("yggdrasil.attempt.ordinal", self._new.ordinal)
        left_ms = int((self._run.deadline_monotonic - self._clock.monotonic()) * 1000)
        if left_ms <= 0:
            return self._failed("timeout", Timeout("The deadline passed before a provider answered"))
        if self._run.cancelled:
            return self._outcome("cancelled", error_code="cancelled")
        job = Job(
            job_id=self._new.attempt_id,
            kind=self._run.request.kind,
            model=self._run.request.model,
            body=self._body(),
            deadline_ms=left_ms,
        )
        try:
            link = self._jobs.open_job(self._new.offer.network_id, self._new.offer.device, job)
        except NotFound:
            return self._failed("offline", ProviderFailed())
        self._run.stop_job = link.cancel
        watch = Watch(link, self._settings.first_chunk_seconds, self._settings.stall_seconds)
        try:
            return await self._follow(link, watch)
        finally:
            watch.end()
            self._run.stop_job = None
            link.cancel()

    @tracing.traced("relay job", _told)
    async def _follow(self, link: JobLink, watch: Watch) -> Outcome:
        async with aclosing(aiter(link)) as events:
            async for event in events:
                if self._run.cancelled or watch.stalled:
                    break
                match event:
                    case Accepted():
                        tracing.event("accepted")
                    case Busy():
                        busy = ProviderFailed("Every provider is busy", retry_after_seconds=1)
                        return self._outcome("busy", error_code="busy", error=busy)
                    case Chunks(parts=parts):
                        watch.heard()
                        try:
                            await self._take(parts, watch)
                        except BadAnswerError as error:
                            return self._failed(
                                "bad_answer", ProviderFailed(f"The provider's answer: {error}")
                            )
                        if self._chat is not None and self._chat.cut:
                            return self._outcome("completed")
                    case Done(usage=usage):
                        return await self._done(usage, watch)
                    case Fault(code=code):
                        return await self._fault(code, watch)
        if self._run.cancelled:
            return self._outcome("cancelled", error_code="cancelled")
        return self._broken_off("stalled", ProviderFailed("The provider fell silent"))

    async def _take(self, parts: list[bytes], watch: Watch) -> None:
        if self._first_chunk_at is None:
            self._first_chunk_at = self._clock.monotonic()
            tracing.event("first chunk")
        for raw in parts:
            if self._vectors is not None:
                self._vectors.take(raw)
            elif self._chat is not None:
                await self._pass(self._chat.take(raw), watch)
                if self._chat.cut or self._run.cancelled:
                    return

    async def _pass(self, chunks: list[bytes], watch: Watch) -> None:
        """To the reader; a reader who is gone, or takes nothing until the deadline, has cancelled."""
        if not chunks or self._run.request.whole:
            return
        parts: list[Chunk] = [Chunk(chunk) for chunk in chunks]
        if (mark := self._run.mark) is not None:
            self._run.mark = None
            parts.insert(0, mark)
        pipe = self._run.pipe
        taken = 0
        while taken < len(parts) and pipe.offer(parts[taken]):
            taken += 1
        if taken < len(parts) and not await self._pass_slowly(parts[taken:], watch):
            self._run.cancel()

    async def _pass_slowly(self, parts: list[Chunk], watch: Watch) -> bool:
        """Wait for a reader who is behind. False if he has left, or the deadline passed."""
        watch.pause(True)
        try:
            left = max(self._run.deadline_monotonic - self._clock.monotonic(), 0.001)
            async with asyncio.timeout(left):
                for part in parts:
                    if not await self._run.pipe.put(part):
                        return False
        except TimeoutError:
            return False
        finally:
            watch.pause(False)
        return True

    async def _done(self, usage: dict[str, Any], watch: Watch) -> Outcome:
        try:
            if self._vectors is not None:
                self._vectors.check()
            elif self._chat is not None:
                self._chat.check()
        except BadAnswerError as error:
            return self._failed("bad_answer", ProviderFailed(f"The provider's answer: {error}"))
        if self._chat is not None and self._chat.finish_reason is None:
            await self._pass([self._chat.end("stop")], watch)
        prompt, completion = _claim(usage, "prompt_tokens"), _claim(usage, "completion_tokens")
        if self._vectors is not None:
            completion = 0
        return self._outcome("completed", prompt_claimed=prompt, completion_claimed=completion)

    async def _fault(self, code: str, watch: Watch) -> Outcome:
        if self._run.cancelled:
            return self._outcome("cancelled", error_code="cancelled")
        if watch.stalled:
            return self._broken_off("stalled", ProviderFailed("The provider fell silent"))
        if code == "timeout":
            if self._chat is not None and self._chat.begun and not self._chat.empty:
                # The requester's own deadline cut a stream that was alive: what was delivered is paid for.
                if self._chat.finish_reason is None:
                    await self._pass([self._chat.end("length")], watch)
                return self._outcome("completed", error_code="deadline")
            return self._failed("timeout", Timeout("The deadline passed before the provider was done"))
        known = code if code in ("lost", "protocol", "overloaded") else "fault"
        return self._broken_off(known, ProviderFailed())

    def _broken_off(self, code: str, error: YggdrasilError) -> Outcome:
        """The provider went away. An answer that was passed on to its very end is complete all the same."""
        if self._chat is not None and self._chat.finish_reason is not None and not self._chat.empty:
            return self._outcome("completed", error_code=code)
        return self._failed(code, error)

    def _failed(self, code: str, error: YggdrasilError) -> Outcome:
        return self._outcome("failed", error_code=code, error=error)

    def _outcome(
        self,
        end: AttemptEnd,
        *,
        error_code: str | None = None,
        error: YggdrasilError | None = None,
        prompt_claimed: int | None = None,
        completion_claimed: int | None = None,
    ) -> Outcome:
        observed = self._chat.observed_tokens if self._chat is not None else 0
        if self._chat is not None:
            delivered = not self._chat.empty
            answer = self._chat.whole()
        else:
            delivered = end == "completed"
            answer = self._vectors.whole() if self._vectors is not None else {}
        first_ms = rate = None
        if self._first_chunk_at is not None:
            first_ms = round((self._first_chunk_at - self._started) * 1000)
            seconds = self._clock.monotonic() - self._first_chunk_at
            if observed > 1 and seconds > 0.05:
                rate = round(observed / seconds)
        return Outcome(
            end=end,
            began=self._chat is not None and self._chat.begun,
            delivered=delivered,
            count=Count(self._run.asked_tokens(), observed, prompt_claimed, completion_claimed),
            answer=answer,
            error_code=error_code,
            error=error,
            first_chunk_ms=first_ms,
            tokens_per_second=rate,
        )

    def _body(self) -> bytes:
        request = self._run.request
        body: dict[str, Any] = {"model": request.model, **request.body}
        if request.kind == "chat":
            body["stream"] = True
            body["max_tokens"] = self._budget.output_tokens_max
            if kept := self._run.resumed():
                text = "".join(text_of(segment.answer) or "" for segment in kept)
                body["messages"] = [*body["messages"], {"role": "assistant", "content": text}]
                # llama.cpp and Ollama go on from a last message of the assistant by themselves; vLLM and
                # SGLang are told so.
                body["continue_final_message"] = True
                body["add_generation_prompt"] = False
        return msgspec.json.encode(body)


def _claim(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and value >= 0 else None
