"""A bounded pool of connections of one login role.

Own, because release must be synchronous: a release that awaits can itself be cancelled, and that is how pools
leak.
A connection comes back either clean (no transaction open) or it is thrown away; the next user never gets
another's state.

Whoever must wait, waits in his own network's line, and the lines have turns: a network that asks a thousand
times delays another's question by one turn, and can never hold all connections, so none is told "all are in
use" for what another does.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable
from typing import Final

import asyncpg

from yggdrasil.db.address import Address, Login, connect
from yggdrasil.errors import ScopeError, Unavailable

ACQUIRE_SECONDS_MAX: Final = 10.0
STATEMENT_SECONDS_MAX: Final = 30
LOCK_SECONDS_MAX: Final = 10
IDLE_TRANSACTION_SECONDS_MAX: Final = 60
CLOSE_SECONDS_MAX: Final = 5.0

_Waiter = asyncio.Future["asyncpg.Connection | None"]


class RolePool:
    """At most `connections_max` connections to `address` as `login`; opened when needed, kept when idle."""

    def __init__(
        self,
        address: Address,
        login: Login,
        *,
        connections_max: int,
        acquire_seconds_max: float = ACQUIRE_SECONDS_MAX,
        statement_seconds_max: int = STATEMENT_SECONDS_MAX,
    ) -> None:
        if connections_max < 1:
            raise ScopeError("connections_max must be at least 1")
        self.address = address
        self.login = login
        self.connections_max = connections_max
        self._acquire_seconds_max = acquire_seconds_max
        self._statement_seconds_max = statement_seconds_max
        self._idle: deque[asyncpg.Connection] = deque()
        self._busy: dict[asyncpg.Connection, Hashable] = {}
        self._slots = 0  # open, plus being opened
        self._held: Counter[Hashable] = Counter()
        """Connections, and slots to open one in, by whose they are."""
        self._lines: dict[Hashable, deque[_Waiter]] = {}
        """Those who wait, by whose they are, in the order of turns."""
        self._closed = False

    @property
    def size(self) -> int:
        """Connections open or being opened."""
        return self._slots

    @property
    def idle(self) -> int:
        """Connections open and unused."""
        return len(self._idle)

    async def acquire(self, owner: Hashable = None) -> asyncpg.Connection:
        """A connection with no transaction open, for `owner`: a network; None for the server's own work.

        Unavailable when none comes free in time or the server is gone.
        """
        if self._closed:
            raise Unavailable("the database pool is closed")
        if self._may_hold_more(owner):
            connection = self._take_idle()
            if connection is not None:
                self._held[owner] += 1
                self._busy[connection] = owner
                return connection
            if self._slots < self.connections_max:
                self._slots += 1
                self._held[owner] += 1
                return await self._open(owner)
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._lines.setdefault(owner, deque()).append(waiter)
        try:
            async with asyncio.timeout(self._acquire_seconds_max):
                connection = await waiter
        except BaseException as error:
            self._abandon(waiter, owner)
            if isinstance(error, TimeoutError):
                raise Unavailable("all database connections are in use", retry_after_seconds=1) from error
            raise
        if connection is None:  # a slot, not a connection
            return await self._open(owner)
        self._busy[connection] = owner
        return connection

    def release(self, connection: asyncpg.Connection, *, clean: bool) -> None:
        """Give a connection back. Not clean, closed or the pool is closing: it is cut."""
        if connection not in self._busy:
            return
        owner = self._busy.pop(connection)
        if clean and not self._closed and not connection.is_closed() and not connection.is_in_transaction():
            self._idle.append(connection)
        else:
            if not connection.is_closed():
                connection.terminate()
            self._slots -= 1
        self._gives_back(owner)

    async def close(self) -> None:
        """Refuse new users, wait a little for those at work, then cut."""
        self._closed = True
        lines, self._lines = self._lines, {}
        for waiter in (waiter for line in lines.values() for waiter in line):
            if not waiter.done():
                waiter.set_exception(Unavailable("the database pool is closed"))
        while self._idle:
            connection = self._idle.pop()
            self._slots -= 1
            try:
                await connection.close(timeout=CLOSE_SECONDS_MAX)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
        for connection in list(self._busy):
            self.release(connection, clean=False)

    async def _open(self, owner: Hashable) -> asyncpg.Connection:
        """Open a connection in a slot that is already counted."""
        try:
            connection = await connect(
                self.address,
                self.login,
                command_timeout=self._statement_seconds_max + 5.0,
                server_settings={
                    "application_name": self.login.user,
                    "statement_timeout": f"{self._statement_seconds_max}s",
                    "lock_timeout": f"{LOCK_SECONDS_MAX}s",
                    "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_SECONDS_MAX}s",
                    "jit": "off",  # statements here are short: compiling them costs more than it saves
                    "timezone": "UTC",
                },
            )
        except BaseException:
            self._slots -= 1
            self._gives_back(owner)
            raise
        if self._closed:
            connection.terminate()
            self._slots -= 1
            self._gives_back(owner)
            raise Unavailable("the database pool is closed")
        self._busy[connection] = owner
        return connection

    def _may_hold_more(self, owner: Hashable) -> bool:
        """No network holds the last connection, if there is more than one."""
        return owner is None or self._held[owner] < max(1, self.connections_max - 1)

    def _take_idle(self) -> asyncpg.Connection | None:
        while self._idle:
            connection = self._idle.pop()  # the warmest first
            if not connection.is_closed():
                return connection
            self._slots -= 1
        return None

    def _gives_back(self, owner: Hashable) -> None:
        """`owner` holds one less; what is free goes to those whose turn it is."""
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        while self._idle or self._slots < self.connections_max:
            turn = self._next_turn()
            if turn is None:
                return
            served, waiter = turn
            connection = self._take_idle()
            if connection is None:
                self._slots += 1
            self._held[served] += 1
            waiter.set_result(connection)

    def _next_turn(self) -> tuple[Hashable, _Waiter] | None:
        """Who waits longest in the first line that may have more; that line goes to the end."""
        for owner in list(self._lines):
            if not self._may_hold_more(owner):
                continue
            line = self._lines.pop(owner)
            while line:
                waiter = line.popleft()
                if not waiter.done():
                    if line:
                        self._lines[owner] = line
                    return owner, waiter
        return None

    def _abandon(self, waiter: _Waiter, owner: Hashable) -> None:
        """A waiter gave up: take it out of its line, or pass on what it was given in the same moment."""
        if not waiter.done() or waiter.cancelled():
            waiter.cancel()
            line = self._lines.get(owner)
            if line is not None and waiter in line:
                line.remove(waiter)
                if not line:
                    del self._lines[owner]
        elif waiter.exception() is None:
            connection = waiter.result()
            if connection is None:
                self._slots -= 1
            else:
                self._idle.append(connection)
            self._gives_back(owner)
