"""One socket: drives the sans-IO client machine, hands out links and jobs, and ends with the reason it
ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from yggdrasil import errors
from yggdrasil.errors import Conflict, ProtocolViolation, Unavailable, YggdrasilError
from yggdrasil.kernel import Clock
from yggdrasil.vedrfolnir.links import DeviceLink, Job
from yggdrasil.wire import events, messages
from yggdrasil.wire.client import Client

TASKS_MAX: Final = 1_024
"""Handlers running at a time; beyond it, what the server or a peer asks for is refused."""

REMEMBERED_ACTIONS_MAX: Final = 1_024
ABNORMAL: Final = 1006

ActionHandler = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""(asking device, arguments) -> result. A YggdrasilError it raises is told to the asker."""

_log = logging.getLogger("yggdrasil.vedrfolnir")

_REFUSALS: Final[dict[str, type[YggdrasilError]]] = {
    "denied": errors.Forbidden,
    "offline": errors.Unavailable,
    "timeout": errors.Timeout,
    "not_found": errors.NotFound,
    "invalid_input": errors.InvalidInput,
    "limit_reached": errors.LimitReached,
    "conflict": errors.Conflict,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What another device answered to an action."""

    ok: bool
    result: dict[str, Any]


@dataclass(slots=True)
class Handlers:
    """What a device does when it is asked. Without a handler the answer is no."""

    allow: Callable[[str, str], Awaitable[bool]] | None = None
    """(asking device, purpose) -> consent to a link."""
    link: Callable[[DeviceLink], Awaitable[None]] | None = None
    """Serves a link that was consented to; it is closed when this returns."""
    job: Callable[[Job], Awaitable[None]] | None = None
    actions: dict[str, ActionHandler] = field(default_factory=dict)
    notice: Callable[[str, dict[str, Any]], None] | None = None
    """News from the server: (name, data)."""
    done_actions: OrderedDict[tuple[str, str], asyncio.Future[Outcome]] = field(default_factory=OrderedDict)
    """By (device, idempotency id): a repeat after a lost connection gets the first answer and acts once."""


class Session:
    """See the module's text. Made by `Connection`, one a dial."""

    def __init__(self, socket: ClientConnection, client: Client, clock: Clock, handlers: Handlers) -> None:
        self.client = client
        self.live = asyncio.Event()
        self.live_at: float | None = None
        self.drain_ms: int | None = None
        self._socket = socket
        self._clock = clock
        self._handlers = handlers
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._over = False
        self._closed: events.Closed | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._purposes: dict[int, str] = {}
        self._links: dict[int, DeviceLink] = {}
        self._jobs: dict[int, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- driving -------------------------------------------------------------------------------------

    async def run(self) -> events.Closed:
        """Serve the socket until it is gone. All handlers have ended when this returns."""
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
            code = self._socket.close_code or ABNORMAL
            reason = self._socket.close_reason or "the connection was lost"
            for event in self.client.closed(code, reason):
                self._take(event)
            await self._end_all()
        return self._closed or events.Closed(code, reason, reconnect=True)

    async def close(self) -> None:
        """End the session from this side, after what is queued for the socket."""
        await self._socket.close(1000)

    def wake(self) -> None:
        """Something may be ready to be written."""
        self._woken.set()

    async def written(self, link: int) -> None:
        """Wait until everything queued on a link is handed to the socket, or the session is over."""
        while not self._over:
            self._idle.clear()
            self._woken.set()
            await self._idle.wait()
            if self.client.queued_bytes(link) == 0:
                return

    @property
    def quiet(self) -> bool:
        """Whether no link and no job is open."""
        return not self._links and not self._jobs

    def forget(self, link: int) -> None:
        """A link ended here."""
        self._links.pop(link, None)
        self.wake()

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._socket.recv()
                for event in self.client.receive(frame, self._clock.monotonic()):
                    self._take(event)
                self._woken.set()
        except ConnectionClosed:
            return
        except ProtocolViolation as fault:
            self._closed = events.Closed(fault.close_code, f"the server broke the protocol: {fault}", False)
            await self._socket.close(fault.close_code, "protocol")

    async def _write(self) -> None:
        try:
            while (due := self.client.next_timeout()) is not None:
                self._woken.clear()
                while (frame := self.client.poll_transmit()) is not None:
                    await self._socket.send(frame)
                    while (event := self.client.poll_event()) is not None:
                        self._take(event)
                self._idle.set()
                self._leave_if_drained()
                due = self.client.next_timeout() or due
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, due - self._clock.monotonic())):
                        await self._woken.wait()
                for event in self.client.on_timeout(self._clock.monotonic()):
                    self._take(event)
            # The machine ended the session: a silent server will not answer a closing handshake either.
            self._socket.transport.abort()
        except ConnectionClosed:
            return

    def _leave_if_drained(self) -> None:
        if self.drain_ms is not None and self.quiet and not self._over:
            self._spawn(self.close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a handler failed", exc_info=error)

    async def _end_all(self) -> None:
        self._over = True
        self._idle.set()
        why = self._closed.reason if self._closed else "the connection was lost"
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable(f"the connection was lost: {why}"))
        self._waiting.clear()
        for link in self._links.values():
            link.ended(why, lost=True)
        for job in self._jobs.values():
            job.cancelled(why)
        self._links.clear()
        self._jobs.clear()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- asking --------------------------------------------------------------------------------------

    async def ask(self, send: Callable[[], int]) -> Any:
        """Send a request and wait for its answer; the exception of its code if it is refused."""
        if self._over:
            raise Unavailable("the connection was lost")
        number = send()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.wake()
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def connect(self, send: Callable[[], int], purpose: str) -> DeviceLink:
        """Ask for a link and wait for the peer's consent."""
        link: DeviceLink = await self.ask(send)
        link.purpose = purpose
        return link

    # ---- events --------------------------------------------------------------------------------------

    def _take(self, event: events.ClientEvent) -> None:
        match event:
            case events.Data():
                link = self._links.get(event.link)
                if link is not None:
                    link.arrived(event.payload)
            case events.Writable():
                channel = self._links.get(event.link) or self._jobs.get(event.link)
                if channel is not None:
                    channel.writable()
            case messages.Welcome():
                self.live_at = self._clock.monotonic()
                self.live.set()
            case messages.Devices():
                self._answer(event.request, event.devices)
            case messages.ConnectRequest():
                self._consent(event)
            case messages.Connected():
                self._connected(event)
            case messages.Disconnect():
                link = self._links.pop(event.link, None)
                if link is not None:
                    link.ended("closed by the peer", lost=False)
            case messages.ActionAsked():
                self._act(event)
            case messages.ActionAnswered():
                self._answer(event.request, Outcome(event.ok, event.result))
            case messages.Error():
                self._refused(event)
            case messages.Event():
                if self._handlers.notice is not None:
                    self._handlers.notice(event.name, event.data)
            case messages.Drain():
                self.drain_ms = event.reconnect_after_ms
            case messages.JobOffer():
                self._offered(event)
            case events.JobReady():
                job = self._jobs.get(event.link)
                if job is not None:  # else refused before its body came
                    job.ready(event.body)
            case events.JobCancelled():
                job = self._jobs.pop(event.link, None)
                if job is not None:
                    job.cancelled("cancelled by the server")
            case events.Closed():
                self._closed = self._closed or event

    def _answer(self, request: int, value: object) -> None:
        future = self._waiting.pop(request, None)
        if future is not None and not future.done():
            future.set_result(value)

    def _refused(self, event: messages.Error) -> None:
        future = self._waiting.pop(event.request, None) if event.request is not None else None
        if future is None or future.done():
            return
        wait = None if event.retry_after_ms is None else -(-event.retry_after_ms // 1000)
        kind = _REFUSALS.get(event.code, YggdrasilError)
        future.set_exception(kind(event.message or event.code, retry_after_seconds=wait))

    def _consent(self, event: messages.ConnectRequest) -> None:
        allow = self._handlers.allow
        if allow is None or len(self._tasks) >= TASKS_MAX:
            self.client.deny(event.ask)
            return

        async def decide() -> None:
            consent = False
            try:
                consent = await allow(event.sender, event.purpose)
            finally:
                if not self._over:
                    if consent:
                        self._purposes[event.ask] = event.purpose
                    (self.client.allow if consent else self.client.deny)(event.ask)
                    self.wake()

        self._spawn(decide())

    def _connected(self, event: messages.Connected) -> None:
        purpose = self._purposes.pop(event.ask, "") if event.ask is not None else ""
        link = DeviceLink(self, event.link, event.peer, purpose)
        self._links[event.link] = link
        if event.request is not None:
            future = self._waiting.pop(event.request, None)
            if future is not None and not future.done():
                future.set_result(link)
                return
        serve = self._handlers.link
        if event.ask is None or serve is None:
            # Nobody waits for it any more.
            self._spawn(link.close())
            return

        async def run() -> None:
            try:
                await serve(link)
            except Unavailable:
                return
            finally:
                if not self._over:
                    await link.close()

        self._spawn(run())

    def _offered(self, offer: messages.JobOffer) -> None:
        job = Job(self, offer)
        serve = self._handlers.job
        if serve is None or len(self._tasks) >= TASKS_MAX:
            job.busy("this device takes no jobs now")
            return
        self._jobs[offer.link] = job

        async def run() -> None:
            try:
                await serve(job)
            except Conflict:
                # The job ended under the handler's hands.
                if job.open:
                    raise
            finally:
                if job.open and not self._over:
                    with suppress(Conflict):
                        job.fault("internal", "the device's handler failed")
                # Counts as open until its last word is out: a drain waits for it.
                await self.written(offer.link)
                self._jobs.pop(offer.link, None)
                self.wake()

        job.task = self._spawn(run())

    def _act(self, event: messages.ActionAsked) -> None:
        handler = self._handlers.actions.get(event.name)
        if handler is None or len(self._tasks) >= TASKS_MAX:
            message = "no such action" if handler is None else "too busy"
            self.client.action_result(event.ask, False, {"code": "unavailable", "message": message})
            return
        known = self._handlers.done_actions
        key = (event.sender, event.idempotency_id)
        future = known.get(key)
        if future is None:
            future = known[key] = asyncio.ensure_future(_outcome(handler, event))
            while len(known) > REMEMBERED_ACTIONS_MAX:
                known.popitem(last=False)

        async def answer() -> None:
            outcome = Outcome(False, {"code": "timeout", "message": "the action took too long"})
            with suppress(TimeoutError):
                async with asyncio.timeout(event.deadline_ms / 1000):
                    outcome = await asyncio.shield(future)
            if not self._over:
                self.client.action_result(event.ask, outcome.ok, outcome.result)
                self.wake()

        self._spawn(answer())


async def _outcome(handler: ActionHandler, event: messages.ActionAsked) -> Outcome:
    try:
        async with asyncio.timeout(event.deadline_ms / 1000):
            return Outcome(True, await handler(event.sender, event.arguments))
    except YggdrasilError as error:
        return Outcome(False, {"code": error.code, "message": error.detail})
    except TimeoutError:
        return Outcome(False, {"code": "timeout", "message": "the action took too long"})
    except Exception:
        # A bug of the handler: logged here, and the asker is not left to wait for the deadline.
        _log.exception("the handler of an action failed")
        return Outcome(False, {"code": "internal", "message": "the action failed"})
