"""Spans of what this server does, for the operator's collector. Without one, a hook costs one comparison.

A span says what kind of work ran, how long and how it ended. It never says for whom: names and attributes
come from our own code and closed sets, no network, person, device, offer, argument or text is among them, and
a value that looks like an id is not taken. Nothing here leaves this process but to the collector: no
`traceparent` is sent to a device, an upstream, a bank or back to the caller.

Every trace begins here. A caller's `traceparent` becomes a link of it and not its parent (W3C Trace Context:
restarting at a trust boundary), so nobody can put the traces of others together by choosing an id. Of a
request that is sampled, the trace id is a hash of the id of the transaction it begins: whoever knows the
transaction finds the trace, and nobody the transaction by the trace.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, Protocol, Self, TypeVar
from uuid import UUID

from yggdrasil.errors import YggdrasilError
from yggdrasil.kernel import Clock, IdSource

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

Key = Literal[
    "http.request.method",
    "http.response.status_code",
    "http.route",
    "error.type",
    "db.query.summary",
    "yggdrasil.scope",
    "yggdrasil.request_id",
    "yggdrasil.attempt.ordinal",
    "yggdrasil.attempt.end",
]
"""All that is ever told of a span."""

SPANS_PER_TRACE_MAX: Final = 512
FORCED_SECONDS_MIN: Final = 1.0
"""Between two traces that are taken only because a caller's sampled flag asks for them."""
STATEMENTS_KNOWN_MAX: Final = 1_024
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

_P = ParamSpec("_P")
_T = TypeVar("_T")

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.,<>{}/: *+-]{1,120}")
_LIKE_AN_ID: Final = re.compile(r"[0-9a-fA-F]{12,}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-|[0-9]{6,}")
_TRACEPARENT: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_STATEMENT: Final = re.compile(
    r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|FROM|JOIN|SELECT)\s+([a-z_]+\.[a-z_][a-z0-9_]*)", re.IGNORECASE
)


class Recorder(Protocol):
    """What makes spans: `yggdrasil.otlp`, over the OpenTelemetry SDK."""

    def start(
        self, name: str, parent: Any, trace_id: int, link: tuple[int, int] | None, *, server: bool
    ) -> Any:
        """A started span of the SDK; `trace_id` counts if there is no parent."""
        ...

    def end(self, span: Any, error: str | None, *, fault: bool) -> None: ...

    def dropped(self, reason: Literal["trace_limit"]) -> None: ...


class _Trace:
    __slots__ = ("closed", "hex", "left", "open", "transaction_id")

    def __init__(self, trace_id: int, transaction_id: UUID | None) -> None:
        self.hex = f"{trace_id:032x}"
        self.transaction_id = transaction_id
        self.left = SPANS_PER_TRACE_MAX
        self.open = 0
        # What outlives its request in the same context (a timer of everybody) is no longer part of it.
        self.closed = False


class Span:
    """An open span, current in its context between `with` and its end."""

    __slots__ = ("_before", "_recorder", "fault", "raw", "trace")

    def __init__(self, recorder: Recorder, raw: Any, trace: _Trace) -> None:
        self._recorder = recorder
        self.raw = raw
        self.trace = trace
        self.fault = False
        self._before: Span | None = None

    def __enter__(self) -> Self:
        self._before = _current.get()
        self.trace.open += 1
        _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not by token: an async generator may be closed in another context than it was opened in.
        _current.set(self._before)
        self.trace.open -= 1
        if self.trace.open == 0:
            self.trace.closed = True
        self._recorder.end(
            self.raw, None if error is None else kind_of(error), fault=self.fault or _is_fault(error)
        )

    def note(self, key: Key, value: str | int) -> None:
        """Say something of it that is in a closed set."""
        # A request id is random, of one answer, and what a caller quotes to the operator.
        known = key == "yggdrasil.request_id" or isinstance(value, int)
        self.raw.set_attribute(key, value if known else shown(str(value)))

    def rename(self, name: str) -> None:
        self.raw.update_name(shown(name))


class Nothing:
    """The span of what is not traced."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


_NOTHING: Final = Nothing()
_current: ContextVar[Span | None] = ContextVar("_current", default=None)


class Tracing:
    """Decides what is traced: `ratio` of all requests and of all rounds of jobs."""

    def __init__(self, recorder: Recorder, ratio: float, clock: Clock, ids: IdSource) -> None:
        self.recorder = recorder
        self._below = int(ratio * 2**64)
        self._clock = clock
        self._ids = ids
        self._forced_at = -FORCED_SECONDS_MIN

    def request(self, traceparent: bytes | None) -> Span | Nothing:
        """The span around a request."""
        transaction_id = self._ids.uuid()
        link, asked = caller_context(traceparent)
        return self._begin("request", transaction_id, link, forced=asked, server=True)

    def root(self, name: str) -> Span | Nothing:
        """The span around work that nobody asked for."""
        return self._begin(name, self._ids.uuid(), None, forced=False, server=False)

    def _begin(
        self, name: str, source: UUID, link: tuple[int, int] | None, *, forced: bool, server: bool
    ) -> Span | Nothing:
        trace_id = _derived(source)
        if trace_id & (2**64 - 1) >= self._below and not (forced and self._may_force()):
            return _NOTHING
        trace = _Trace(trace_id, source if server else None)
        return Span(
            self.recorder, self.recorder.start(shown(name), None, trace_id, link, server=server), trace
        )

    def _may_force(self) -> bool:
        now = self._clock.monotonic()
        if now - self._forced_at < FORCED_SECONDS_MIN:
            return False
        self._forced_at = now
        return True

    def child(self, parent: Span, name: str) -> Span | Nothing:
        trace = parent.trace
        if trace.closed:
            return _NOTHING
        if trace.left <= 1:
            self.recorder.dropped("trace_limit")
            return _NOTHING
        trace.left -= 1
        return Span(self.recorder, self.recorder.start(shown(name), parent.raw, 0, None, server=False), trace)


installed: Tracing | None = None
"""The tracing of this process; None, the default: nothing is traced. Hot paths look here themselves."""


def install(tracing: Tracing | None) -> None:
    """From now on."""
    global installed  # noqa: PLW0603  one process, one collector; asked for on every hot path
    installed = tracing


def span(name: str) -> Span | Nothing:
    """`with span("work"):` a part of the trace that is open here, if one is. `name` comes from our code."""
    if installed is None:
        return _NOTHING
    parent = _current.get()
    return _NOTHING if parent is None else installed.child(parent, name)


def root(name: str) -> Span | Nothing:
    """`with root("job x"):` a trace of its own."""
    return _NOTHING if installed is None else installed.root(name)


def traced(
    name: str, told: Callable[[Any], dict[Key, str | int | None]] | None = None, *, alone: bool = False
) -> Callable[[Callable[_P, Coroutine[Any, Any, _T]]], Callable[_P, Coroutine[Any, Any, _T]]]:
    """Decorates an async function: a span around each call. `told` says of its result what is to be noted;
    `alone` makes it a trace of its own."""

    def decorate(function: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
        async def within(opened: Span | Nothing, work: Coroutine[Any, Any, _T]) -> _T:
            with opened as here:
                result = await work
                if here is not None and told is not None:
                    for key, value in told(result).items():
                        if value is not None:
                            here.note(key, value)
                return result

        @functools.wraps(function)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> Coroutine[Any, Any, _T]:
            work = function(*args, **kwargs)
            if installed is None:
                return work
            opened = root(name) if alone else span(name)
            return work if opened is _NOTHING else within(opened, work)

        return wrapper

    return decorate


def note(key: Key, value: str | int) -> None:
    """Say something of the current span."""
    if installed is not None and (here := _current.get()) is not None:
        here.note(key, value)


def event(name: str) -> None:
    """Something happened in the current span, now."""
    if installed is not None and (here := _current.get()) is not None:
        here.raw.add_event(shown(name))


def transaction(opening: AbstractAsyncContextManager[_T], role: str) -> AbstractAsyncContextManager[_T]:
    """`opening`, with a span from the wait for a connection to the commit. It is named for the use case:
    the function that asked our caller for a transaction."""
    if _current.get() is None:
        return opening
    use_case = sys._getframe(2).f_code.co_qualname  # noqa: SLF001  a name of our code, at no caller's cost
    return _transaction(opening, role, use_case)


@asynccontextmanager
async def _transaction(
    opening: AbstractAsyncContextManager[_T], role: str, use_case: str
) -> AsyncIterator[_T]:
    with span(f"transaction {use_case}") as here:
        if here is not None:
            here.note("yggdrasil.scope", role)
        async with opening as tx:
            event("begun")
            yield tx


def statement(asked: Awaitable[_T], sql: str) -> Awaitable[_T]:
    """A statement on its way: what it does to which table is told, its text and arguments are not."""
    return asked if _current.get() is None else _statement(asked, sql)


async def _statement(asked: Awaitable[_T], sql: str) -> _T:
    with span(f"SQL {summary(sql)}"):
        return await asked


def trace_fields() -> dict[str, str]:
    """What a log line says of the trace it belongs to."""
    here = None if installed is None else _current.get()
    return {} if here is None else {"trace_id": here.trace.hex}


def new_transaction_id(ids: IdSource) -> UUID:
    """An id for a transaction: the one that the open trace's id was made of, once; else a new one."""
    here = None if installed is None else _current.get()
    if here is not None and here.trace.transaction_id is not None:
        taken, here.trace.transaction_id = here.trace.transaction_id, None
        return taken
    return ids.uuid()


def trace_id_of(transaction_id: UUID) -> str:
    """The id of the trace of the request that began this transaction, if it was sampled."""
    return f"{_derived(transaction_id):032x}"


def _derived(source: UUID) -> int:
    # One way: a collector's reader must not find transactions. Never 0, which is no trace id.
    return int.from_bytes(hashlib.blake2s(source.bytes, digest_size=16, person=b"ygg-trac").digest()) or 1


def caller_context(traceparent: bytes | None) -> tuple[tuple[int, int] | None, bool]:
    """(trace id, span id) of a caller's W3C `traceparent` and its sampled flag. Anything else is ignored."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    if match is None:
        return None, False
    trace_id, span_id = int(match[1], 16), int(match[2], 16)
    if not trace_id or not span_id:
        return None, False
    return (trace_id, span_id), bool(int(match[3], 16) & 1)


def shown(text: str) -> str:
    """The text, or `other` for one that no code of ours would have chosen."""
    return text if _PLAIN.fullmatch(text) and not _LIKE_AN_ID.search(text) else "other"


@functools.lru_cache(STATEMENTS_KNOWN_MAX)
def summary(sql: str) -> str:
    """What a statement does, such as `UPDATE platform.attempts`: verbs and tables, no values."""
    found: list[str] = []
    for verb, table in _STATEMENT.findall(sql):
        verb = verb.split()[0].upper()  # noqa: PLW2901
        said = f"{'SELECT' if verb in ('FROM', 'JOIN') else verb} {table}"
        if said not in found:
            found.append(said)
    return ", ".join(found[:3]) or shown(sql.split(None, 1)[0].upper() if sql.strip() else "")


def kind_of(error: BaseException) -> str:
    """The code of our errors, the class of others; never a message."""
    if isinstance(error, YggdrasilError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else shown(type(error).__qualname__)


def _is_fault(error: BaseException | None) -> bool:
    """Whether the server is to blame: a refusal is an answer."""
    if isinstance(error, YggdrasilError):
        return error.status >= 500
    return isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError)


class _TraceRequests:
    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind: str = scope["type"]
        if kind != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), None)
        with self._tracing.request(given) as here:
            if here is None:
                await self._app(scope, receive, send)
                return
            status = 500

            async def tell(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await self._app(scope, receive, tell)
            finally:
                here.fault = status >= 500
                told: Any = scope
                method = told["method"] if told["method"] in METHODS else "other"
                route = told.get("path_template") or "unmatched"
                here.rename(f"{method} {route}")
                here.note("http.request.method", method)
                here.note("http.route", route)
                here.note("http.response.status_code", status)
                here.note("yggdrasil.request_id", told.get("request_id", ""))


def trace_requests(app: ASGIApp) -> ASGIApp:
    """`app` with a span around each HTTP request; without tracing, `app` itself."""
    return app if installed is None else _TraceRequests(app, installed)
