"""The shell around the relay core: sockets, timers, lookups and jobs of one asyncio loop.

The core decides; the hub carries out. Every method below is synchronous, one call into the core each, and
none of them waits: what a socket cannot take yet stays in the core's bounded queues until the endpoint pulls
it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec

from yggdrasil import _core
from yggdrasil.bifrost.effects import Effect, JobBatch
from yggdrasil.bifrost.jobs import JobLink
from yggdrasil.bifrost.protocol import Hello, HubLimits, Job, JobEvent, Member
from yggdrasil.errors import (
    Forbidden,
    InvalidInput,
    LimitReached,
    NotFound,
    Unauthenticated,
    YggdrasilError,
)
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.tracing import traced
from yggdrasil.wire.limits import NONCE_BYTES, CloseCode
from yggdrasil.wire.messages import DeviceInfo, refusal

__all__ = ["DeviceInfo", "Hello", "Hub", "HubLimits", "Job", "JobEvent", "JobLink", "Member", "Socket"]

_T = TypeVar("_T")
_log = logging.getLogger("yggdrasil.bifrost")


class Socket(Protocol):
    """What the hub needs of an open socket. All calls return at once."""

    def wake(self) -> None:
        """`Hub.pull` has something."""
        ...

    def say_last(self, frame: str) -> None:
        """Send this before the close that follows."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close with this code; the session is over already."""
        ...


class _Session:
    __slots__ = ("member", "socket", "tasks")

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.member: Member | None = None
        self.tasks: set[asyncio.Task[None]] = set()


class Hub:
    """All sessions of this process.

    `authenticate` judges a hello: a `Member`, or an error (`Unauthenticated` and its like are final, all
    others mean "not now"; of `LimitReached` the device is told). `directory` lists the devices of a
    member's own network; `exists` (default: by `directory`) says whether one of that name is in it.
    Callbacks in `on_presence` run inside the hub: they must be quick and must not wait. So do those in
    `on_unknown`, which hear of devices that a member asked for and that are not in its network.
    """

    def __init__(
        self,
        authenticate: Callable[[Hello], Awaitable[Member]],
        directory: Callable[[Member], Awaitable[list[DeviceInfo]]],
        clock: Clock,
        ids: IdSource,
        limits: HubLimits | None = None,
        *,
        exists: Callable[[Member, str], Awaitable[bool]] | None = None,
    ) -> None:
        self.on_presence: list[Callable[[Member, bool], None]] = []
        self.meter: Callable[[UUID, int], float] = lambda _network, _bytes: 0.0
        """Counts a message of a network; the seconds until its socket may be read again."""
        self.on_unknown: list[Callable[[Member, str], None]] = []
        self._authenticate, self._directory = authenticate, directory
        self._exists = exists or self._exists_by_directory
        self._clock, self._ids = clock, ids
        self._core = _core.Relay(**(limits or HubLimits()).settings())
        self._sessions: dict[int, _Session] = {}
        self._jobs: dict[int, JobLink] = {}
        self._serving: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: int | None = None

    # ---- for the rest of the house --------

    def online(self, network_id: UUID, device: UUID) -> bool:
        """Whether this device of this network holds a live session here. Nobody is online while draining."""
        return self._core.online(network_id.bytes, device.bytes)

    def open_job(self, network_id: UUID, device: UUID, job: Job) -> JobLink:
        """Offer a job to a device; `NotFound` if it is not online, `InvalidInput` if it breaks a limit.

        The link must be iterated to its end or cancelled: until then the core keeps what came for it.
        """
        number, effects = self._core.open_job(
            self._now_ms(),
            network_id=network_id.bytes,
            device=device.bytes,
            job=str(job.job_id),
            kind=job.kind,
            model=job.model,
            body=job.body,
            deadline_ms=job.deadline_ms,
        )
        if number is None:
            self._apply(effects)
            raise NotFound("the device is not online")
        link = self._jobs[number] = JobLink(self, number)
        self._apply(effects)
        return link

    def event(self, network_id: UUID, device: UUID, name: str, data: dict[str, Any]) -> bool:
        """Send news to a device; False if it is not online (or the event breaks a limit): nothing is kept for
        it.
        """
        text = msgspec.json.encode(data).decode()
        sent, effects = self._core.event(network_id.bytes, device.bytes, name, text, self._now_ms())
        self._apply(effects)
        return sent

    def revoke(
        self,
        *,
        user_id: UUID | None = None,
        session_id: UUID | None = None,
        device: UUID | None = None,
        network_id: UUID | None = None,
        key_id: UUID | None = None,
    ) -> int:
        """Close, for good, the sessions that match every argument given; without any, none. Returns how many.

        A hello that is being judged at this moment is covered too.
        """
        ended, effects = self._core.revoke(
            self._now_ms(),
            network_id=_bytes(network_id),
            user_id=_bytes(user_id),
            device=_bytes(device),
            session_id=_bytes(session_id),
            key_id=_bytes(key_id),
        )
        self._apply(effects)
        return ended

    def drain(self, reconnect_after_ms: int) -> None:
        """Before a stop: tell every device, refuse new ones, and close what is left after that time."""
        if reconnect_after_ms < 0:
            raise InvalidInput("reconnect_after_ms: at least 0", field="reconnect_after_ms")
        self._apply(self._core.drain(reconnect_after_ms, self._now_ms()))

    def counts(self) -> tuple[int, int]:
        """(sessions, jobs), for metrics."""
        return self._core.counts()

    async def aclose(self) -> None:
        """Close every socket and wait until nothing of the hub runs any more."""
        tasks = [task for session in self._sessions.values() for task in session.tasks]
        for number in list(self._sessions):
            self._apply(self._core.end(number, CloseCode.GOING_AWAY, self._now_ms()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._serving:
            await asyncio.wait(self._serving)

    # ---- for the endpoint --------

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around a socket's handler, so that `aclose` can wait for it."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a handler is a task
        self._serving.add(task)
        try:
            yield
        finally:
            self._serving.discard(task)

    def open(self, socket: Socket) -> int | None:
        """A socket came in: its session, or None after closing it because there is no room."""
        number, effects = self._core.open(self._now_ms(), self._ids.secret(NONCE_BYTES))
        if number < 0:
            code = CloseCode(-number)
            socket.close(code, code.name.lower())
            return None
        self._sessions[number] = _Session(socket)
        self._apply(effects)
        return number

    def receive(self, session: int, frame: str | bytes) -> float:
        """One message of a socket; the seconds to wait before the next is read."""
        if isinstance(frame, str):
            self._apply(self._core.receive_text(session, frame, self._now_ms()))
        else:
            self._apply(self._core.receive_binary(session, frame, self._now_ms()))
        known = self._sessions.get(session)
        if known is None or known.member is None:
            return 0.0
        return self.meter(known.member.network_id, len(frame))

    def pull(self, session: int) -> str | bytes | None:
        """The next message for a socket that can take one."""
        return self._core.poll_transmit(session, self._now_ms())

    def closed(self, session: int) -> None:
        """The socket is gone. Idempotent."""
        self._apply(self._core.closed(session, self._now_ms()))
        self._forget(session)

    # ---- for JobLink --------

    def take_job(self, number: int) -> JobBatch | None:
        """What came for a job; grants credit for what the take before gave."""
        batch, effects = self._core.take_job(number, self._now_ms())
        if batch is None or batch[2] is not None:
            self._jobs.pop(number, None)
        self._apply(effects)
        return batch

    def cancel_job(self, number: int) -> None:
        """Idempotent."""
        if self._jobs.pop(number, None) is not None:
            self._apply(self._core.cancel_job(number, self._now_ms()))

    # ---- inside --------

    def on_timer(self) -> None:
        """Time passed. Called by the loop; tests with a clock of their own call it themselves."""
        self._timer = self._timer_ms = None
        self._apply(self._core.on_timeout(self._now_ms()))

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case ("wake", int(number)):
                    session = self._sessions.get(number)
                    if session is not None:
                        session.socket.wake()
                case ("job", int(number)):
                    link = self._jobs.get(number)
                    if link is not None:
                        link.wake()
                case ("close", int(number), int(code), str(reason)):
                    session = self._forget(number)
                    if session is not None:
                        session.socket.close(code, reason)
                case ("presence", int(number), bool(online)):
                    self._presence(number, online)
                case ("authenticate", int(number), str(token), str(device_id), str(proof), bytes(nonce)):
                    self._spawn(number, self._judge(number, Hello(token, device_id, proof, nonce)))
                case ("directory", int(number), int(ticket)):
                    self._spawn(number, self._list(number, ticket))
                case ("exists", int(number), int(ticket), str(device_id)):
                    self._spawn(number, self._look_up(number, ticket, device_id))
        self._arm()

    def _arm(self) -> None:
        due_ms = self._core.next_timeout()
        if due_ms == self._timer_ms and (due_ms is None or self._timer is not None):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_ms = due_ms
        if due_ms is not None:
            # Everybody's timer: not in the context, and so the trace, of whoever set it.
            delay = max(0.0, (due_ms + 1 - self._clock.monotonic() * 1000) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay, self.on_timer, context=Context())

    def _forget(self, number: int) -> _Session | None:
        session = self._sessions.pop(number, None)
        if session is not None:
            for task in session.tasks:
                task.cancel()
        return session

    def _presence(self, number: int, online: bool) -> None:
        session = self._sessions.get(number)
        if session is None or session.member is None:
            return
        for callback in self.on_presence:
            try:
                callback(session.member, online)
            except Exception:
                _log.exception("a presence callback failed")

    def _spawn(self, number: int, work: Coroutine[Any, Any, None]) -> None:
        session = self._sessions.get(number)
        if session is None:
            work.close()
            return
        task = asyncio.create_task(work)
        session.tasks.add(task)
        task.add_done_callback(session.tasks.discard)

    @traced("socket hello", alone=True)
    async def _judge(self, number: int, hello: Hello) -> None:
        try:
            member = await self._authenticate(hello)
        except (Unauthenticated, Forbidden, NotFound, InvalidInput):
            self._apply(self._core.refused(number, CloseCode.UNAUTHENTICATED, self._now_ms()))
            return
        except LimitReached as error:
            session = self._sessions.get(number)
            if session is not None:
                session.socket.say_last(refusal(error))
            self._apply(self._core.refused(number, CloseCode.FULL, self._now_ms()))
            return
        except YggdrasilError:
            self._apply(self._core.refused(number, CloseCode.UNAVAILABLE, self._now_ms()))
            return
        except Exception:
            _log.exception("the verdict on a hello failed")
            self._apply(self._core.refused(number, CloseCode.INTERNAL, self._now_ms()))
            return
        session = self._sessions.get(number)
        if session is None:
            return
        session.member = member
        self._apply(
            self._core.authenticated(
                number,
                self._now_ms(),
                network_id=member.network_id.bytes,
                user_id=member.user_id.bytes,
                device=member.device.bytes,
                device_id=member.device_id,
                session_id=_bytes(member.session_id),
                key_id=_bytes(member.key_id),
            )
        )

    async def _list(self, number: int, ticket: int) -> None:
        answer = await self._ask(number, self._directory)
        devices = None if answer is None else [(info.device_id, info.name, info.kind) for info in answer]
        self._apply(self._core.directory(ticket, devices, self._now_ms()))

    async def _look_up(self, number: int, ticket: int, device_id: str) -> None:
        found = await self._ask(number, lambda member: self._exists(member, device_id))
        session = self._sessions.get(number)
        self._apply(self._core.exists(ticket, found, self._now_ms()))
        if found is False and session is not None and session.member is not None:
            for callback in self.on_unknown:
                callback(session.member, device_id)

    async def _ask(self, number: int, question: Callable[[Member], Awaitable[_T]]) -> _T | None:
        session = self._sessions.get(number)
        if session is None or session.member is None:
            return None
        try:
            return await question(session.member)
        except YggdrasilError:
            return None
        except Exception:
            _log.exception("a lookup failed")
            return None

    async def _exists_by_directory(self, member: Member, device_id: str) -> bool:
        return any(info.device_id == device_id for info in await self._directory(member))


def _bytes(value: UUID | None) -> bytes | None:
    return None if value is None else value.bytes
