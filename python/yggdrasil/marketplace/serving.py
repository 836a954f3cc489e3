"""The run of a request: admission, dispatch, stream, settlement; and failover while nothing has been seen.

Every run has a task of its own, so that a reader who goes away cannot take the settlement with him.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
import structlog

from yggdrasil import heidrun
from yggdrasil.errors import (
    LimitReached,
    NoProvider,
    NotFound,
    PaymentMethodRequired,
    PaymentRequired,
    ProviderFailed,
    Timeout,
    Unauthenticated,
    Unavailable,
    YggdrasilError,
)
from yggdrasil.kernel import Clock, IdSource, Network
from yggdrasil.marketplace import billing
from yggdrasil.marketplace.admission import Admission
from yggdrasil.marketplace.allowed import check_model
from yggdrasil.marketplace.attempt import Attempt, Outcome
from yggdrasil.marketplace.auto import AUTO
from yggdrasil.marketplace.choosing import CHOICES_MAX, Chooser, Step
from yggdrasil.marketplace.ending import bill_for, ending_for
from yggdrasil.marketplace.jobs import Jobs
from yggdrasil.marketplace.judging import Judgement, judge
from yggdrasil.marketplace.picking import BusyError
from yggdrasil.marketplace.queueing import Queue
from yggdrasil.marketplace.records import ProviderUnpayableError, Records
from yggdrasil.marketplace.requests import ComputeRequest, State
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.run import Finished, Run
from yggdrasil.marketplace.sealing import NONCE_BYTES, ResultSeal
from yggdrasil.marketplace.segments import Breaks, joined
from yggdrasil.marketplace.settings import MarketSettings, Node
from yggdrasil.marketplace.store_run import SealedResult
from yggdrasil.marketplace.waiting import less
from yggdrasil.tracing import new_transaction_id, traced

_log = structlog.get_logger("yggdrasil.marketplace")

REFUSALS_MAX: Final = 16
"""Answers `busy` to one request that do not count as its tries."""


class Serving:
    """Starts runs, knows those that are alive, and ends them."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        records: Records,
        routing: Routing,
        clock: Clock,
        ids: IdSource,
        node: Node,
        seal: ResultSeal,
        settings: MarketSettings,
    ) -> None:
        self._jobs = jobs
        self._records = records
        self._routing = routing
        self._clock = clock
        self._ids = ids
        self._seal = seal
        self._settings = settings
        self._chooser = Chooser(routing, clock, ids, node, settings)
        self.queue = Queue(self._chooser, routing, records, clock, settings)
        self._admission = Admission(self._chooser, records, self.queue, self._keep)
        self._runs: dict[UUID, Run] = {}
        self._of_user: Counter[tuple[UUID, UUID]] = Counter()
        self._of_network: Counter[UUID] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.breaks = Breaks(settings.breaks_per_hour_max)
        self._closing = False

    # ---- from outside
    # ---------------------------------------------------------------------------------------

    async def start(self, scope: Network, request: ComputeRequest) -> Run:
        """Admit a request and dispatch it.

        Raises Forbidden (not a model of the API key), NoProvider, PaymentRequired, PaymentMethodRequired,
        Conflict, LimitReached, InvalidInput, Unavailable."""
        if request.model != AUTO:
            check_model(scope, request.model)
        user = (scope.network_id, scope.user_id)
        if self._closing:
            raise Unavailable("This server is about to stop; try again", retry_after_seconds=1)
        if len(self._runs) >= self._settings.runs_max:
            raise LimitReached("This server runs as many requests as it can", retry_after_seconds=1)
        for who, running, most in (
            ("user", self._of_user[user], self._settings.runs_per_user_max),
            ("network", self._of_network[scope.network_id], self._settings.runs_per_network_max),
        ):
            if running >= most:
                raise LimitReached(
                    f"At most {most} requests of one {who} at a time",
                    retry_after_seconds=1,
                    limit=most,
                    used=running,
                )
        if request.wishes.scope == "market":
            self.breaks.check(scope.network_id, self._clock.monotonic())
        now = self._clock.now()
        seconds = request.wishes.deadline_seconds
        run = Run(
            scope=scope,
            request=request,
            transaction_id=new_transaction_id(self._ids),
            created_at=now,
            deadline_at=now + timedelta(seconds=seconds),
            deadline_monotonic=self._clock.monotonic() + seconds,
            prompt_tokens=request.prompt_tokens(),
        )
        self._runs[run.transaction_id] = run
        self._of_user[user] += 1
        self._of_network[scope.network_id] += 1
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keep(
            asyncio.create_task(self._serve(run, admitted), name="marketplace: run"),
            lambda: self._over(run, admitted, Unavailable("The server stopped")),
        )
        try:
            # A caller who goes away now must not leave a hold that nobody ends: the run goes on, cancelled.
            await asyncio.shield(admitted)
        except asyncio.CancelledError:
            run.close()
            raise
        return run

    @property
    def running(self) -> int:
        """How many runs are alive on this server."""
        return len(self._runs)

    def find(self, scope: Network, transaction_id: UUID) -> Run:
        """A run of the caller that is alive on this server, or NotFound."""
        run = self._runs.get(transaction_id)
        mine = run is not None and (run.scope.network_id, run.scope.user_id) == (
            scope.network_id,
            scope.user_id,
        )
        if run is None or not mine:
            raise NotFound
        return run

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Take no more; let what runs finish, then cancel it: it is settled for what was delivered."""
        self._closing = True
        self.queue.stop()
        self._routing.refusals.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for run in list(self._runs.values()):
            run.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- serving
    # --------------------------------------------------------------------------------------------

    @traced("run")
    async def _serve(self, run: Run, admitted: asyncio.Future[None]) -> None:
        error: Exception | None = None
        try:
            step = await self._admission.admit(run)
            admitted.set_result(None)
            await self._follow(run, step)
        except YggdrasilError as known:
            error = known
        except asyncio.CancelledError:
            # The server stops before this could end: the reconciler of the next boot ends it.
            error = Unavailable("The server stopped")
            raise
        except Exception as bug:
            if not admitted.done():
                error = bug
            else:
                _log.exception("run failed", transaction=str(run.transaction_id))
                error = ProviderFailed("The request could not be finished")
        finally:
            self._over(run, admitted, error)

    def _over(self, run: Run, admitted: asyncio.Future[None], error: Exception | None) -> None:
        """Idempotent: the first error stands."""
        run.done = True
        if self._runs.pop(run.transaction_id, None) is None:
            return
        user = (run.scope.network_id, run.scope.user_id)
        less(self._of_user, user)
        less(self._of_network, run.scope.network_id)
        if admitted.done():
            run.pipe.end(error)
        else:
            # It never began: whoever asked for it gets the error, and nobody reads the pipe.
            admitted.set_exception(error or Unavailable("The server stopped"))

    def _keep(self, task: asyncio.Task[None], ended: Callable[[], None] | None = None) -> None:
        self._tasks.add(task)

        def forget(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if ended is not None:
                # A task that is cancelled before its first step runs nothing of its own, not even `finally`.
                ended()

        task.add_done_callback(forget)

    async def _follow(self, run: Run, step: Step) -> None:
        """Attempt after attempt, until one is the last; whatever happens, it is ended in the books."""
        try:
            while True:
                outcome = await self._attempt(run, step)
                following = await self._follow_on(run, step, outcome)
                if following is None:
                    break
                step = following
            await self._conclude(run, step, outcome)
        except Exception:
            if not run.booked:
                await self._records.give_up(run.scope.network_id, step.attempt)
            raise

    async def _attempt(self, run: Run, step: Step) -> Outcome:
        left_seconds = run.deadline_monotonic - self._clock.monotonic()
        give_back = self._routing.release
        try:
            attempt = Attempt(self._jobs, self._clock, self._settings, run, step.attempt, step.budget)
            outcome = await attempt.run()
            if outcome.end == "busy":
                # It may take the request when it has room; no fault of its own keeps it from that.
                give_back = self._routing.refused
                run.refusals += 1
                run.tried.discard(step.offer.id)
        finally:
            give_back(step.offer.id)
        if outcome.broke and run.request.wishes.scope == "market":
            self.breaks.count(run.scope.network_id, self._clock.monotonic())
        if outcome.error_code == "timeout" and left_seconds < self._settings.first_chunk_seconds:
            # The requester left no time for it: that tells nothing about the provider.
            return outcome
        outcome.judgement = self._judged(run, step, outcome)
        self._routing.observe(step.offer, outcome, quality=outcome.judgement.quality)
        return outcome

    def _judged(self, run: Run, step: Step, outcome: Outcome) -> Judgement:
        """What the answer is worth; and what its claim teaches of the model's tokens."""
        model, count, tolerance = run.request.model, outcome.count, self._routing.tolerance
        exaggerated = billing.exaggerates(count, tolerance.percent(model))
        if outcome.end == "completed":
            tolerance.learn(model, step.offer.network_id, count.observed, count.claimed)
        return judge(
            run.request.body,
            outcome.answer,
            delivered=outcome.delivered,
            exaggerated=exaggerated,
            completion_tokens=count.completion_observed,
            output_tokens_max=step.budget.output_tokens_max * run.request.choices,
            cut_by_us=count.claimed is None,
        )

    async def _follow_on(self, run: Run, step: Step, outcome: Outcome) -> Step | None:
        """The next attempt, committed; None if this outcome is the last."""
        late = self._clock.monotonic() >= run.deadline_monotonic
        if run.cancelled or late:
            return None
        wishes = run.request.wishes
        tokens = outcome.count.completion_observed
        if not outcome.retry and not (
            outcome.broke and run.broke_off(step.attempt.ordinal, outcome.answer, tokens)
        ):
            return None
        if not wishes.allow_fallbacks and not wishes.order:
            return None
        attempts_max = self._settings.attempts_max + min(run.refusals, REFUSALS_MAX)
        for _ in range(CHOICES_MAX):
            if run.attempts >= attempts_max:
                break
            try:
                following = self._chooser.choose(run, previous=step)
            except BusyError as busy:
                if not outcome.retry or run.segments:
                    # The requester has seen some of it: that cannot go back to the queue.
                    return None
                return await self._admission.again(run, step, ending_for(outcome, self._clock.now()), busy)
            except NoProvider:
                return None
            rehold = following.hold_microcents if following.attempt.hold_id != step.attempt.hold_id else None
            try:
                begun = await self._records.fail_over(
                    self._chooser.transaction(run),
                    step.attempt,
                    ending_for(outcome, self._clock.now()),
                    following.attempt,
                    rehold_microcents=rehold,
                )
            except (ProviderUnpayableError, PaymentRequired):
                # A dearer offer that the wallet does not cover: another may be cheaper.
                self._chooser.drop(run, following)
                continue
            except (PaymentMethodRequired, Unauthenticated):
                # No method any more, or the API key has ended: nothing more can be held.
                self._chooser.drop(run, following)
                return None
            except BaseException:
                self._chooser.drop(run, following)
                raise
            if not begun:
                self._chooser.drop(run, following)
                run.booked = True
                raise Timeout("The deadline passed")
            run.goes_on(outcome.answer, following.attempt.ordinal)
            return following
        return None

    async def _conclude(self, run: Run, step: Step, outcome: Outcome) -> None:
        """SQL 2, then the last part to the reader. What failed raises its error here, after it was
        written."""
        bill = bill_for(
            outcome,
            step.attempt,
            step.budget,
            tolerance_percent=self._routing.tolerance.percent(run.request.model),
        )
        ending = ending_for(outcome, self._clock.now())
        finished = Finished(
            transaction_id=run.transaction_id,
            state=bill.state,
            answer=joined(run.segments, outcome.answer),
            prompt_tokens=bill.prompt_tokens,
            completion_tokens=bill.completion_tokens,
            cost_microcents=bill.total_microcents,
            tokenizer=heidrun.encoding_for(run.request.model)[0],
            attempts=run.attempts,
            latency_ms=outcome.first_chunk_ms,
            model_choice=run.model_choice,
            segments=tuple(run.segments),
        )
        kept = outcome.delivered and bill.state is not State.FAILED
        result = self._sealed(run, finished, ending.at) if kept else None
        # From here a cancel comes too late.
        run.done = True
        written = await self._records.finish(
            self._chooser.transaction(run), step.attempt, ending, bill, result
        )
        run.booked = True
        if bill.state is State.COMPLETED:
            self._routing.affinity.served(run.scope, run.request, step.offer.id)
        if written == "ended":
            raise Timeout("The deadline passed; nothing is paid")
        if bill.state is State.FAILED:
            raise outcome.error or ProviderFailed()
        # A reader who takes nothing any more must not keep the run.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.settle_grace_seconds):
                await run.pipe.put(finished)

    def _sealed(self, run: Run, finished: Finished, at: datetime) -> SealedResult | None:
        """Only what was paid for is kept; at home there is nothing to lose but time."""
        if run.request.wishes.scope != "market":
            return None
        nonce = self._ids.secret(NONCE_BYTES)
        plain = msgspec.json.encode(finished.whole())
        if len(plain) > 8 * 1024 * 1024 - 16:
            return None
        sealed = self._seal.seal(run.scope.network_id, run.scope.user_id, run.transaction_id, nonce, plain)
        keep = timedelta(seconds=math.floor(self._settings.result_seconds))
        return SealedResult(nonce, sealed, at + keep)
