"""A device's standing connection: dials out, comes back by itself, and offers links, actions and jobs.

    async with Connection(url, device_id, sign=…, token=account.token) as connection:
        link = await connection.connect("laptop", "chat")
        await link.send(b"hello")

Which losses are worth another dial is the rule of close codes: 4000-4499 and a lost transport are,
4500-4999 are final.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from yggdrasil.errors import (
    Conflict,
    InvalidInput,
    LimitReached,
    ProtocolViolation,
    Timeout,
    Unauthenticated,
    Unavailable,
    YggdrasilError,
)
from yggdrasil.kernel import Clock, IdSource, SystemClock, SystemIds
from yggdrasil.vedrfolnir.address import is_loopback, socket_url
from yggdrasil.vedrfolnir.backoff import STABLE_SECONDS, delay_seconds, drain_delay_seconds
from yggdrasil.vedrfolnir.identity import Identity
from yggdrasil.vedrfolnir.links import DeviceLink, Job
from yggdrasil.vedrfolnir.session import ABNORMAL, ActionHandler, Handlers, Outcome, Session
from yggdrasil.wire.client import Client
from yggdrasil.wire.events import Closed
from yggdrasil.wire.limits import MESSAGE_BYTES_MAX, SUBPROTOCOL, CloseCode
from yggdrasil.wire.messages import DeviceInfo

OPEN_SECONDS_MAX: Final = 10
CLOSE_SECONDS_MAX: Final = 3
LIVE_SECONDS_MAX: Final = 30
LINK_QUEUE_BYTES_MAX: Final = 262_144
DEADLINE_MS: Final = 30_000


class TokenSource(Protocol):
    """`Account.token`: a good access token; `renew` asks for another one than the last."""

    def __call__(self, *, renew: bool = False) -> Awaitable[str]: ...


class Connection:
    """See the module's text. Handlers are set before it is entered.

    `on_state(state, detail)`: "live" (detail: the session's name), "lost" (why, and when the next dial is).
    """

    def __init__(
        self,
        url: str,
        device_id: str,
        *,
        sign: Callable[[bytes], bytes],
        token: TokenSource,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        on_state: Callable[[str, str], None] | None = None,
    ) -> None:
        self._url = socket_url(url)
        self._device_id = device_id
        self._sign = sign
        self._token = token
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds()
        self._on_state = on_state or (lambda _state, _detail: None)
        self._handlers = Handlers()
        self._session: Session | None = None
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last_problem = "not dialled yet"

    @classmethod
    def of(cls, identity: Identity, token: TokenSource, **options: Any) -> Connection:
        """The connection of a paired device."""
        sign = identity.private_key().sign
        return cls(identity.server_url, identity.device_id, sign=sign, token=token, **options)

    # ---- what this device does when asked ------------------------------------------------------------

    def on_connect(
        self,
        allow: Callable[[str, str], Awaitable[bool]],
        serve: Callable[[DeviceLink], Awaitable[None]],
    ) -> None:
        """Take links: `allow(asking device, purpose)` consents, `serve(link)` uses it; it is closed
        afterwards.
        """
        self._handlers.allow, self._handlers.link = allow, serve

    def on_action(self, name: str, handler: ActionHandler) -> None:
        """Do an action when another device of the own network asks: `handler(device, arguments) ->
        result`.
        """
        self._handlers.actions[name] = handler

    def on_job(self, handler: Callable[[Job], Awaitable[None]]) -> None:
        """Serve compute jobs. The handler is cancelled when the server wants no more of a job."""
        self._handlers.job = handler

    def on_notice(self, handler: Callable[[str, dict[str, Any]], None]) -> None:
        """Hear the server's news: (name, data)."""
        self._handlers.notice = handler

    # ---- life ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run())
        try:
            await self.live()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session and dial no more."""
        self._stopping.set()
        self._changed.set()
        if self._session is not None:
            await self._session.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def wait(self) -> None:
        """Until the connection ends for good: returns after `close`, else raises why it is final."""
        if self._task is None:
            raise Conflict("the connection was not entered")
        await asyncio.shield(self._task)

    async def live(self, seconds_max: float = LIVE_SECONDS_MAX) -> None:
        """Until a session is live. Raises the reason of a final end, or Unavailable with the last problem."""
        await self._live(seconds_max)

    async def _live(self, seconds_max: float = LIVE_SECONDS_MAX) -> Session:
        try:
            async with asyncio.timeout(seconds_max):
                while True:
                    self._changed.clear()
                    session = self._session
                    if session is not None and session.live.is_set():
                        return session
                    if self._task is not None and self._task.done():
                        await self._task
                    if self._stopping.is_set():
                        raise Unavailable("the connection is closed")
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"no session within {seconds_max:g} seconds: {self._last_problem}") from None

    async def run(self) -> None:
        """Dial, serve, dial again, until `close` or a final reason, which is raised."""
        try:
            await self._run()
        finally:
            self._changed.set()

    async def _run(self) -> None:
        attempt = 0
        renewed = False
        while not self._stopping.is_set():
            closed, session = await self._dial(renew=renewed)
            if self._stopping.is_set():
                return
            if session is not None and session.live_at is not None:
                renewed = False
            if not closed.reconnect:
                # The token alone may be why: one dial with another one is not "the same dial".
                if closed.code != CloseCode.UNAUTHENTICATED or renewed:
                    raise final_error(closed)
                renewed = True
                continue
            renewed = False
            if session is not None and session.live_at is not None:
                lived_seconds = self._clock.monotonic() - session.live_at
                if lived_seconds >= STABLE_SECONDS or session.drain_ms is not None:
                    attempt = 0
            if session is not None and session.drain_ms is not None:
                seconds = drain_delay_seconds(session.drain_ms, self._chance())
            else:
                seconds = delay_seconds(attempt, self._chance())
                attempt += 1
            self._last_problem = closed.reason
            self._on_state("lost", f"{closed.reason}; dialling again in {seconds:.1f} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()

    async def _dial(self, *, renew: bool) -> tuple[Closed, Session | None]:
        session: Session | None = None
        try:
            token = await self._token(renew=renew)
            async with connect(
                self._url,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                max_size=MESSAGE_BYTES_MAX,
                ping_interval=None,
                ping_timeout=None,
                open_timeout=OPEN_SECONDS_MAX,
                close_timeout=CLOSE_SECONDS_MAX,
                proxy=None if is_loopback(self._url) else True,
                user_agent_header=None,
            ) as socket:
                client = Client(
                    device_id=self._device_id,
                    token=token,
                    sign=self._sign,
                    now=self._clock.monotonic(),
                    queue_bytes_max=LINK_QUEUE_BYTES_MAX,
                )
                session = self._session = Session(socket, client, self._clock, self._handlers)
                announce = asyncio.create_task(self._announce(session))
                try:
                    return await session.run(), session
                finally:
                    self._session = None
                    announce.cancel()
        except InvalidURI as error:
            raise InvalidInput(f"server: {error}", field="server") from error
        except (Unavailable, Timeout, LimitReached) as error:  # of the token
            return Closed(ABNORMAL, error.detail, reconnect=True), session
        except (OSError, InvalidHandshake, EOFError) as error:  # TimeoutError is an OSError
            text = str(error) or type(error).__name__
            return Closed(ABNORMAL, f"{self._url}: {text}", reconnect=True), session

    async def _announce(self, session: Session) -> None:
        await session.live.wait()
        welcome = session.client.welcome
        self._on_state("live", welcome.session if welcome is not None else "")
        self._changed.set()

    def _chance(self) -> float:
        return int.from_bytes(self._ids.secret(6), "big") / 2**48

    # ---- asking --------------------------------------------------------------------------------------

    async def discover(self) -> list[DeviceInfo]:
        """The devices of the own network."""
        session = await self._live()
        found: list[DeviceInfo] = await session.ask(session.client.discover)
        return found

    async def connect(
        self, to: str, purpose: str, relay: Literal["auto", "force", "never"] = "auto"
    ) -> DeviceLink:
        """Ask a device of the own network for a link. Forbidden if it refuses, NotFound if there is none
        such,
        Unavailable if it is offline, Timeout if nobody answered.
        """
        session = await self._live()
        return await session.connect(lambda: session.client.connect(to, purpose, relay), purpose)

    async def act(
        self,
        to: str,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        deadline_ms: int = DEADLINE_MS,
        idempotency_id: str | None = None,
    ) -> Outcome:
        """Have a device of the own network do something. Give the same `idempotency_id` again to repeat
        safely.
        """
        session = await self._live()
        key = idempotency_id or str(self._ids.uuid())
        outcome: Outcome = await session.ask(
            lambda: session.client.action(
                to, name, arguments or {}, deadline_ms=deadline_ms, idempotency_id=key
            )
        )
        return outcome


def final_error(closed: Closed) -> YggdrasilError:
    """The exception for an end that another dial would not change."""
    if closed.code == CloseCode.UNAUTHENTICATED:
        return Unauthenticated(f"the server does not know this device or session: {closed.reason}")
    if closed.code == CloseCode.REVOKED:
        return Unauthenticated(f"this session or device was revoked: {closed.reason}")
    if closed.code == CloseCode.REPLACED:
        return Conflict("another process connected as this device")
    return ProtocolViolation(f"{closed.reason} (close code {closed.code})", close_code=closed.code)
