"""Requests that wait for a slot: every event that may free one looks for the first whom it suits.

The books know them as PENDING; nothing is held for them before they are sent on their way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from yggdrasil.errors import Conflict, LimitReached, NoProvider, Timeout, Unavailable, YggdrasilError
from yggdrasil.kernel import Clock
from yggdrasil.marketplace.choosing import Chooser, Step
from yggdrasil.marketplace.picking import BusyError
from yggdrasil.marketplace.records import Records
from yggdrasil.marketplace.requests import ComputeRequest, State
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.run import Run
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.marketplace.store_queue import Owner, Wait, WaitReason
from yggdrasil.marketplace.store_run import Ending, NewAttempt
from yggdrasil.marketplace.waiting import Line, Ticket, Waiting

WAITS_NOTED_MAX: Final = 64
"""Of one request; how often its turn may lead to nothing is bounded by the offers."""

_Device = tuple[UUID, UUID]
_log = structlog.get_logger("yggdrasil.marketplace")


@dataclass(frozen=True, slots=True)
class Form:
    """A request for one model. Of one that leaves the model to us there are several."""

    request: ComputeRequest
    prompt_tokens: int
    model_choice: dict[str, Any] | None = None


class Book(Protocol):
    """Puts the first attempt into the books; False, and the step is dropped, if its provider cannot be
    paid."""

    def __call__(self, run: Run, step: Step, *, queued: bool = False) -> Awaitable[bool]: ...


@dataclass(eq=False, slots=True)
class _Place:
    """One who waits. `woken` is set once there is a step, or an error."""

    run: Run
    forms: dict[Line, Form]
    ticket: Ticket
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    step: Step | None = None
    error: YggdrasilError | None = None

    def end(self, error: YggdrasilError) -> None:
        self.error = self.error or error
        self.woken.set()


class Queue:
    """The queue of this server. In memory; `Records` writes it down."""

    def __init__(
        self, chooser: Chooser, routing: Routing, records: Records, clock: Clock, settings: MarketSettings
    ) -> None:
        self._chooser = chooser
        self._routing = routing
        self._records = records
        self._clock = clock
        self._settings = settings
        self._waiting = Waiting(
            tickets_max=settings.queue_max,
            per_network_max=settings.queue_per_network_max,
            per_user_max=settings.queue_per_user_max,
        )
        self._places: dict[Ticket, _Place] = {}
        self._events: deque[tuple[_Device | None, bool]] = deque()
        self._serving = False
        self._closing = False
        routing.on_free = self._freed

    def __len__(self) -> int:
        return len(self._waiting)

    def oldest_seconds(self) -> float:
        """For how long the one has waited that waits longest; 0.0 if nobody does."""
        since = self._waiting.since()
        return 0.0 if since is None else max(self._clock.monotonic() - since, 0.0)

    def stop(self) -> None:
        """Everybody is told at once; nobody is let in any more."""
        self._closing = True
        for ticket in self._waiting.tickets():
            self._places[ticket].end(Unavailable("The server stopped", retry_after_seconds=1))

    async def admit(self, run: Run, forms: Sequence[Form], busy: BusyError, book: Book) -> Step:
        """The first attempt, in the books, as soon as an offer has room.

        Raises `busy` if that takes too long (or the queue is full), LimitReached (the user's, the network's),
        Conflict (the idempotency key was used; or: cancelled), PaymentRequired, PaymentMethodRequired,
        Unavailable."""
        seconds = self._seconds_left(run)
        if seconds <= 0 or self._closing:
            raise busy
        if run.cancelled:
            raise _cancelled()
        waits = self._chooser.pending(run)
        least = min(self._chooser.least_hold(run, form.request, form.prompt_tokens) for form in forms)
        # From here on it has a place, which `_wait` gives back.
        place = self._join(run, forms, busy)

        async def enqueue(owner: Owner, wait: Wait) -> None:
            try:
                await self._records.enqueue(waits, owner, least, wait)
            except Unavailable:
                # Nobody knows whether it was committed.
                await self._ended(run, State.FAILED, Unavailable.code)
                raise

        return await self._wait(place, seconds, busy, book, enqueue, "busy")

    async def wait_again(
        self, run: Run, previous: NewAttempt, ending: Ending, busy: BusyError, book: Book
    ) -> Step | None:
        """The next attempt of a request whose last one nobody saw anything of: it waits in the place it had,
        or that it would have had, until an offer has room. Its attempt, its hold and its state are ended, or
        changed, in one transaction: nothing is held while it waits.

        None if it may not wait any longer; then nothing is written. Raises `busy` if it takes too long,
        Conflict (cancelled), Timeout (the reconciler has ended it), what a hold may raise, Unavailable."""
        seconds = self._seconds_left(run)
        if seconds <= 0 or self._closing:
            return None
        new = self._chooser.pending(run)
        place = self._place(run, [Form(run.request, run.prompt_tokens, run.model_choice)])
        place.ticket.turns = run.turns
        self._waiting.put_back(place.ticket)

        async def send_back(owner: Owner, wait: Wait) -> None:
            if not await self._records.send_back(new, previous, ending, owner, wait):
                raise Timeout("The deadline passed")

        reason: WaitReason = "refused" if ending.attempt_state == "busy" else "failed"
        return await self._wait(place, seconds, busy, book, send_back, reason)

    def _seconds_left(self, run: Run) -> float:
        """How long it may wait yet, what it waited before included."""
        wished = run.request.wishes.queue_seconds
        most = self._settings.queue_seconds if wished is None else wished
        return min(most - run.waited_seconds, run.deadline_monotonic - self._clock.monotonic())

    async def _wait(
        self,
        place: _Place,
        seconds: float,
        busy: BusyError,
        book: Book,
        write: Callable[[Owner, Wait], Awaitable[None]],
        reason: WaitReason,
    ) -> Step:
        """`write` puts the wait into the books. Where it stands is seen before."""
        run, loop = place.run, asyncio.get_running_loop()
        began = loop.time()
        until_at = self._clock.now() + timedelta(seconds=seconds)
        try:
            await write(self._chooser.owner(until_at), self._begun(place, reason, busy.gates, until_at))
            return await self._served(place, began + seconds, busy, book, until_at)
        finally:
            self._leave(place)
            run.waited_seconds += loop.time() - began

    async def _served(
        self, place: _Place, until: float, busy: BusyError, book: Book, until_at: datetime
    ) -> Step:
        run = place.run
        try:
            while not await book(run, step := await self._turn(place, until, busy), queued=True):
                run.tried.add(step.offer.id)
                self._rejoin(place)
                if run.waits < WAITS_NOTED_MAX:
                    await self._note(run, self._begun(place, "unpaid", busy.gates, until_at))
        except Exception as error:
            state = State.CANCELLED if run.cancelled else State.FAILED
            code = error.code if isinstance(error, YggdrasilError) else YggdrasilError.code
            await self._ended(run, state, "cancelled" if run.cancelled else code)
            raise
        run.turns = place.ticket.turns
        return step

    def _begun(self, place: _Place, reason: WaitReason, gates: Sequence[str], until_at: datetime) -> Wait:
        run, here = place.run, place.ticket in self._waiting
        run.waits += 1
        return Wait(
            ordinal=run.waits,
            reason=reason,
            gates=gates,
            # One that was given a step has the attempt counted already.
            attempts=run.attempts - (place.step is not None),
            ahead=self._waiting.ahead(place.ticket) if here else 0,
            waiting=len(self._waiting) - here,
            queued_at=self._clock.now(),
            until_at=until_at,
        )

    async def _note(self, run: Run, wait: Wait) -> None:
        try:
            await self._records.note_wait(run.scope.network_id, run.transaction_id, wait)
        except Unavailable:
            _log.warning("why a request waits on was not written", transaction=str(run.transaction_id))

    async def _turn(self, place: _Place, until: float, busy: BusyError) -> Step:
        try:
            async with asyncio.timeout_at(until):
                await place.woken.wait()
        except TimeoutError:
            if place.step is None:
                place.end(busy)
        if place.error is not None:
            raise place.error
        if place.step is None:
            raise RuntimeError("woken for nothing")
        step, place.step = place.step, None
        place.woken.clear()
        return step

    async def _ended(self, run: Run, state: State, code: str) -> None:
        try:
            await self._records.leave(run.scope.network_id, run.transaction_id, state, code)
        except Unavailable:
            _log.warning("a waiting request is left to the reconciler", transaction=str(run.transaction_id))

    # ---- places
    # ----------------------------------------------------------------------------------------------

    def _join(self, run: Run, forms: Sequence[Form], busy: BusyError) -> _Place:
        network_id, user_id = run.scope.network_id, run.scope.user_id
        match self._waiting.full(network_id, user_id):
            case "user":
                most = self._settings.queue_per_user_max
                raise LimitReached(f"At most {most} requests of one user wait", retry_after_seconds=1)
            case "network":
                most = self._settings.queue_per_network_max
                raise LimitReached(f"At most {most} requests of one network wait", retry_after_seconds=1)
            case "queue":
                raise busy
        place = self._place(run, forms)
        self._waiting.add(place.ticket)
        if run.tried:
            # Its way here took a while: what it was told of may have changed.
            self._look(place)
        return place

    def _place(self, run: Run, forms: Sequence[Form]) -> _Place:
        by_line: dict[Line, Form] = {(form.request.kind, form.request.model): form for form in forms}
        ticket = Ticket(
            network_id=run.scope.network_id,
            user_id=run.scope.user_id,
            lines=tuple(by_line),
            since=self._clock.monotonic(),
            demand=_demand(run, forms),
            size=forms[0].prompt_tokens,
            arrived=run.arrived_monotonic,
        )
        place = self._places[ticket] = _Place(run, by_line, ticket)
        run.stop_job = lambda: place.end(_cancelled())
        return place

    def _rejoin(self, place: _Place) -> None:
        """Its turn led to nothing: it is the next again."""
        del self._places[place.ticket]
        place.ticket = replace(place.ticket, demand=place)
        self._waiting.put_back(place.ticket)
        self._places[place.ticket] = place
        self._look(place)

    def _look(self, place: _Place) -> None:
        if any(self._fits(place.ticket, line) for line in place.ticket.lines):
            self._waiting.remove(place.ticket)

    def _leave(self, place: _Place) -> None:
        self._waiting.remove(place.ticket)
        self._places.pop(place.ticket, None)
        place.run.stop_job = None
        if place.step is not None:
            # It went away just when its turn came: the slot is the next one's.
            self._chooser.drop(place.run, place.step)
            place.step = None

    # ---- events
    # ----------------------------------------------------------------------------------------------

    def _freed(self, device: _Device | None, one: bool) -> None:
        """There may be room. What that leads to may free more: it is looked at afterwards."""
        if not self._waiting:
            return
        self._events.append((device, one))
        if self._serving:
            return
        self._serving = True
        try:
            while self._events:
                self._serve(*self._events.popleft())
        finally:
            self._serving = False
            self._events.clear()

    def _serve(self, device: _Device | None, one: bool) -> None:
        lines = self._waiting.lines() if device is None else list(self._routing.lines_of(device))
        unfit: dict[tuple[Line, Hashable], int] = {}
        while (ticket := self._waiting.take(lines, self._fits, unfit)) is not None:
            step = self._places[ticket].step
            if one and step is not None and (step.offer.network_id, step.offer.device) == device:
                return

    def _fits(self, ticket: Ticket, line: Line) -> bool:
        """Try for a slot. One who cannot be served whatever becomes free is told, and taken out."""
        place = self._places[ticket]
        run, form = place.run, place.forms[line]
        if place.error is not None:
            self._waiting.remove(ticket)
            return False
        before = run.request, run.prompt_tokens, run.model_choice
        run.request, run.prompt_tokens, run.model_choice = form.request, form.prompt_tokens, form.model_choice
        try:
            place.step = self._chooser.choose(run, previous=None)
        except NoProvider:
            run.request, run.prompt_tokens, run.model_choice = before
            return False
        except YggdrasilError as error:
            self._waiting.remove(ticket)
            place.end(error)
            return False
        place.woken.set()
        return True


def _cancelled() -> Conflict:
    return Conflict("The request was cancelled while it waited")


def _demand(run: Run, forms: Sequence[Form]) -> Hashable:
    """What decides, but for the length of the prompt, whether an offer suits."""
    if len(forms) > 1 or run.tried:
        return run.transaction_id
    request, scope = forms[0].request, run.scope
    return scope.network_id, scope.user_id, request.wishes, request.output_tokens_max, request.choices
