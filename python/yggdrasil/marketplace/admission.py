"""How a request gets its first attempt: picked, in the books, and if need be after a wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from yggdrasil.errors import NoProvider, Timeout, Unavailable
from yggdrasil.marketplace.auto import AUTO, MODELS_TRIED_MAX
from yggdrasil.marketplace.choosing import CHOICES_MAX, Chooser, Step
from yggdrasil.marketplace.picking import BusyError
from yggdrasil.marketplace.queueing import Form, Queue
from yggdrasil.marketplace.records import ProviderUnpayableError, Records
from yggdrasil.marketplace.run import Run
from yggdrasil.marketplace.store_run import Ending


class Admission:
    """Raises what `Serving.start` says. `keep` holds on to a task until it is done."""

    def __init__(
        self, chooser: Chooser, records: Records, queue: Queue, keep: Callable[[asyncio.Task[None]], None]
    ) -> None:
        self._chooser = chooser
        self._records = records
        self._queue = queue
        self._keep = keep

    async def admit(self, run: Run) -> Step:
        """The first attempt, in the books; if all that fits is busy, once there is room."""
        asked, busy_forms = run.request, list[Form]()
        try:
            return await self._admit_now(run, busy_forms)
        except BusyError as busy:
            run.request = asked
            return await self._queue.admit(run, busy_forms, busy, self._book)

    async def again(self, run: Run, previous: Step, ending: Ending, busy: BusyError) -> Step | None:
        """See `Queue.wait_again`."""
        return await self._queue.wait_again(run, previous.attempt, ending, busy, self._book)

    async def _admit_now(self, run: Run, busy: list[Form]) -> Step:
        """Of a request that leaves the model to us, with the best of those that somebody takes it for. What
        only lacks a free slot is added to `busy`."""
        asked = run.request
        if asked.model != AUTO:
            busy.append(Form(asked, run.prompt_tokens))
            return await self._admit_model(run)
        choice = self._chooser.models(run)
        unmet = NoProvider("No model can be asked at the moment", retry_after_seconds=1)
        for candidate in choice.ranked[:MODELS_TRIED_MAX]:
            run.request = replace(asked, model=candidate.model)
            run.prompt_tokens = run.request.prompt_tokens()
            run.model_choice = choice.shown(candidate)
            try:
                return await self._admit_model(run)
            except NoProvider as error:
                choice.refused(candidate, error)
                if isinstance(error, BusyError):
                    busy.append(Form(run.request, run.prompt_tokens, run.model_choice))
                unmet = unmet if isinstance(unmet, BusyError) else error
        raise unmet

    async def _admit_model(self, run: Run) -> Step:
        for _ in range(CHOICES_MAX):
            step = self._chooser.choose(run, previous=None)
            if await self._book(run, step):
                return step
        raise NoProvider("No fitting offer can be paid at the moment", retry_after_seconds=1)

    async def _book(self, run: Run, step: Step, *, queued: bool = False) -> bool:
        """Into the books; False, and the step is dropped, if its provider cannot be paid."""
        new = self._chooser.transaction
        try:
            admitted = await self._records.admit(new(run), step.attempt, step.hold_microcents, queued=queued)
        except ProviderUnpayableError:
            self._chooser.drop(run, step)
            return False
        except Unavailable:
            # Nobody knows whether it was committed. The caller hears now; the hold ends when the database is
            # back.
            self._chooser.drop(run, step)
            undo = self._records.give_up(run.scope.network_id, step.attempt)
            self._keep(asyncio.create_task(undo, name="marketplace: undo"))
            raise
        except BaseException:
            self._chooser.drop(run, step)
            raise
        if admitted == "ended":
            self._chooser.drop(run, step)
            raise Timeout("The request waited for too long, and was ended")
        return True
