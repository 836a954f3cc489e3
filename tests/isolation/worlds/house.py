"""One server in this process: the real composition over real PostgreSQL, in virtual time, with ids per
person.

What differs from production is the clock, the source of ids, and the transport: requests enter at the ASGI
interface. The application is made once; the services behind it are new in every life, over emptied tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from urllib.parse import quote
from zlib import crc32

import asyncpg

from tests.isolation.worlds.clock import VirtualClock, VirtualLoop
from tests.isolation.worlds.streams import SYSTEM, Streams, acting, context_of
from yggdrasil.adapters.devmail import DevMailer, KeptMail
from yggdrasil.app import create_app
from yggdrasil.config import Settings
from yggdrasil.db import Database, VaultDatabase
from yggdrasil.db.address import Address, Login, connect
from yggdrasil.db.bootstrap import Databases, open_database
from yggdrasil.db.vault import MIMIR_ROLE, open_pool
from yggdrasil.keys import Keys
from yggdrasil.server import _every, _jobs
from yggdrasil.services import Node, Services, assemble, running

CONNECTIONS_MAX = 4
ANSWER_SECONDS_MAX = 700.0
"""Longer than any request may take."""
FORWARDED = sorted(set(Services.__dataclass_fields__) - {"settings", "clock", "ids", "mailer", "readiness"})
SCHEMAS = ("tenant", "identity", "platform", "jobs", "vault")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Ground:
    """Two migrated databases that belong to one house alone."""

    main: Address
    mimir: Address
    admin: Login
    keys: Keys


@dataclass(frozen=True)
class Ask:
    """One request, byte by byte."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __str__(self) -> str:
        where = self.path + (f"?{self.query}" if self.query else "")
        told = [f"{self.method} {where}", *(f"{n}: {v}" for n, v in self.headers if n != "content-length")]
        return "; ".join(told) + (f"; {self.body.decode(errors='replace')}" if self.body else "")


@dataclass
class Answer:
    """What came back. `seconds`: virtual ones until its end."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    seconds: float = 0.0
    complete: bool = False


class _Forward:
    """Whatever the present life's service is asked."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)


class _ForwardMailer(DevMailer):
    def __init__(self, find: Callable[[], DevMailer]) -> None:
        self._find = find

    @property
    def kept(self) -> tuple[KeptMail, ...]:
        return self._find().kept


class House:
    """`begin` a life, ask, `end` it; `close` for good. All methods but the coroutines are for the outside of
    its loop."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.clock = VirtualClock()
        self.streams = Streams()
        self.loop = VirtualLoop(self.clock, self._owed)
        self.services: Services
        self._stack = AsyncExitStack()
        self._place = tempfile.TemporaryDirectory(prefix="yggdrasil-world-")
        # The canary networks are an oracle of their own, over a port that is not there.
        # Many runs of one house sign in within the same minute, from the same addresses.
        self._settings = Settings(
            data_dir=Path(self._place.name),
            isolation_probes_per_minute=0,
            sign_ins_per_address_per_minute=1_000_000,
            tier_default="enterprise",
        )
        self._main: Database = open_database(
            ground.main, ground.keys, self.clock, self.streams, connections_max=CONNECTIONS_MAX
        )
        self._mimir: VaultDatabase = open_pool(
            ground.mimir, MIMIR_ROLE, ground.keys.role_password(MIMIR_ROLE), connections_max=CONNECTIONS_MAX
        )
        self._admins: list[tuple[asyncpg.Connection, str]] = []
        forwards = {name: _Forward(lambda name=name: getattr(self.services, name)) for name in FORWARDED}  # type: ignore[misc]
        parts = SimpleNamespace(
            settings=self._settings,
            ids=self.streams,
            clock=self.clock,
            mailer=_ForwardMailer(lambda: cast(DevMailer, self.services.mailer)),
            readiness=lambda: self.services.readiness(),
            **forwards,
        )
        self.app = create_app(cast(Services, parts))

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run_until_complete(coroutine)

    def begin(self, seed: int) -> None:
        self.run(self._begin(seed))

    def end(self) -> None:
        self.run(self._end())

    def close(self) -> None:
        """After `end`."""

        async def close() -> None:
            for connection, _ in self._admins:
                await connection.close()
            await self._main.close()
            await self._mimir.close()

        self.run(close())
        self.loop.close()
        self._place.cleanup()

    # ---- lives -------------------------------------------------------------------------------------------

    async def _begin(self, seed: int) -> None:
        await self.empty()
        self.clock.__init__()  # type: ignore[misc]
        self.streams.restart(seed)
        with acting(SYSTEM):
            node = Node(self.streams.uuid(), self.streams.uuid())
            databases = Databases(self._main, self._mimir, None)
            self.services = assemble(
                self._settings, self.ground.keys, databases, node, self.clock, self.streams
            )
            mailer = cast(DevMailer, self.services.mailer)
            mailer._stream, mailer._kept = io.StringIO(), deque()
            self._stack = AsyncExitStack()
            await self._stack.enter_async_context(running(self.services))
            for name, seconds, job in _jobs(self.services):
                task = asyncio.create_task(_every(name, seconds, job), name=f"job {name}")
                self._stack.push_async_callback(_cancelled, task)
            await self.loop.settle()

    async def _end(self) -> None:
        """The life is thrown away: whatever still runs ends, as at a power cut, but with no connection cut.
        The services end too, now: left to the collector of garbage they would stop within some later life,
        and write there what was theirs to write."""
        await self.loop.settle()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.services.hub._arm = lambda: None  # type: ignore[method-assign]
        stopping = asyncio.ensure_future(self._stack.aclose())
        await self.loop.settle()
        while not stopping.done():
            due_us = self.loop.next_due_us()
            assert due_us is not None, "a stop that nothing will bring"
            self.clock.us = max(self.clock.us, due_us)
            await self.loop.settle()
        await stopping
        for handle in list(self.loop._scheduled):  # type: ignore[attr-defined]
            handle.cancel()

    async def empty(self) -> None:
        """Every table as the migrations left it. The first time, before any life, it is seen how that is."""
        if not self._admins:
            for address in (self.ground.main, self.ground.mimir):
                connection = await connect(address, self.ground.admin)
                self._admins.append((connection, await _emptying(connection)))
        for connection, sql in self._admins:
            await connection.execute(sql)

    async def sql(self, text: str, *args: object) -> list[asyncpg.Record]:
        """On the main database, past all policies."""
        return await self._admins[0][0].fetch(text, *args)  # type: ignore[no-any-return]

    def _owed(self) -> bool:
        pools = (*self._main.pools.values(), self._mimir.pool)
        return any(pool.size != pool.idle for pool in pools)

    # ---- asking ------------------------------------------------------------------------------------------

    async def ask(self, actor: str, ask: Ask) -> Answer:
        """The answer, or what there is of it after `ANSWER_SECONDS_MAX`."""
        answer, task = self.begin_ask(actor, ask)
        return await self.finish_ask(answer, task)

    def begin_ask(self, actor: str, ask: Ask) -> tuple[Answer, asyncio.Task[None]]:
        answer = Answer()
        task = self.loop.create_task(self._serve(actor, ask, answer), context=context_of(actor))
        return answer, task

    async def finish_ask(self, answer: Answer, task: asyncio.Task[None]) -> Answer:
        began_us = self.clock.us
        await self.loop.settle()
        while not task.done() and self.clock.us - began_us < ANSWER_SECONDS_MAX * 1_000_000:
            due_us = self.loop.next_due_us()
            assert due_us is not None, "an answer that nothing will bring"
            self.clock.us = max(self.clock.us, due_us)
            await self.loop.settle()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        answer.seconds = (self.clock.us - began_us) / 1_000_000
        return answer

    async def _serve(self, actor: str, ask: Ask, answer: Answer) -> None:
        parts = [{"type": "http.request", "body": ask.body, "more_body": False}]
        gone: asyncio.Future[Any] = self.loop.create_future()

        async def receive() -> Any:
            return parts.pop() if parts else await gone

        async def send(event: Any) -> None:
            if event["type"] == "http.response.start":
                answer.status = event["status"]
                answer.headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in event["headers"]]
            else:
                answer.body += event.get("body", b"")
                answer.complete = not event.get("more_body", False)

        scope = self._scope(actor, "http", ask.path, ask.query, ask.headers)
        await self.app({**scope, "method": ask.method}, receive, send)

    def _scope(
        self, actor: str, kind: str, path: str, query: str, headers: tuple[tuple[str, str], ...]
    ) -> Any:
        raw = [
            (name.encode(), value.encode("latin-1")) for name, value in (("host", "edda.example"), *headers)
        ]
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "https" if kind == "http" else "wss",
            "server": ("192.0.2.1", 443),
            "client": client_of(actor),
            "root_path": "",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode("latin-1", "replace"),
            "headers": raw,
            "state": {},
            "extensions": {},
        }

    def dial(self, actor: str, wire: Wire) -> None:
        """Open a socket; `wire` sees what comes."""
        scope = {
            **self._scope(actor, "websocket", "/bifrost", "", ()),
            "subprotocols": list(wire.subprotocols),
        }
        wire.put({"type": "websocket.connect"})
        wire.actor = actor
        wire.task = self.loop.create_task(
            self.app(scope, wire.receive, wire.send),  # type: ignore[arg-type]
            context=context_of(actor),
        )

    def mails_to(self, addresses: frozenset[str], after: int) -> tuple[list[tuple[str, str, str]], int]:
        """(to, subject, text) of the mails to these addresses among those kept, from the `after`-th on."""
        kept = [m.mail for m in self.services.mailer.kept if m.mail.to in addresses]  # type: ignore[attr-defined]
        return [(mail.to, mail.subject, mail.text) for mail in kept[after:]], len(kept)


class Wire:
    """One side of a socket. `react` is told each frame as it comes and may answer at once."""

    def __init__(self, react: Callable[[Wire, str | bytes], None], subprotocols: tuple[str, ...]) -> None:
        self.subprotocols = subprotocols
        self.actor = ""
        self.seen: list[Any] = []
        self.open = True
        self.task: asyncio.Task[Any] | None = None
        self._react = react
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, event: Any) -> None:
        self._inbox.put_nowait(event)

    def say(self, frame: str | bytes) -> None:
        if isinstance(frame, str):
            self.put({"type": "websocket.receive", "text": frame, "bytes": None})
        else:
            self.put({"type": "websocket.receive", "bytes": frame, "text": None})

    def hang_up(self, code: int = 1000) -> None:
        self.open = False
        self.put({"type": "websocket.disconnect", "code": code})

    async def receive(self) -> Any:
        return await self._inbox.get()

    async def send(self, event: Any) -> None:
        if event["type"] == "websocket.accept":
            self.seen.append(("accepted", event.get("subprotocol")))
        elif event["type"] == "websocket.close":
            self.seen.append(("closed", event.get("code"), event.get("reason")))
            self.open = False
            self.put({"type": "websocket.disconnect", "code": event.get("code")})
        elif event["type"] == "websocket.send":
            frame = event.get("text")
            frame = event.get("bytes") if frame is None else frame
            self.seen.append(frame)
            if self.open:
                self._react(self, frame)

    def take(self) -> list[Any]:
        """What came since the last time."""
        seen, self.seen = self.seen, []
        return seen


def client_of(actor: str) -> tuple[str, int]:
    """Everybody comes from an address of their own, none of this machine."""
    return f"198.51.100.{crc32(actor.encode()) % 250 + 1}", 40_000


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _emptying(connection: asyncpg.Connection) -> str:
    """The SQL that empties a database. What the migrations wrote is kept aside the first time."""
    await connection.execute("CREATE SCHEMA IF NOT EXISTS pristine")
    tables = await connection.fetch(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY($1) ORDER BY 1, 2", list(SCHEMAS)
    )
    steps = ["SET session_replication_role = replica"]
    for schema, table in tables:
        name, kept = f'"{schema}"."{table}"', f'pristine."{schema}_{table}"'
        if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {name})"):
            await connection.execute(f"CREATE TABLE IF NOT EXISTS {kept} AS SELECT * FROM {name}")
        steps.append(f"DELETE FROM {name}")
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", kept):
            steps.append(f"INSERT INTO {name} SELECT * FROM {kept}")
    return "; ".join([*steps, "SET session_replication_role = origin"])
