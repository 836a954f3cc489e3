"""A bounded pool of connections of one login role.

Own, because release must be synchronous: a release that awaits can itself be cancelled, and that is how pools
leak.
A connection comes back either clean (no transaction open) or it is thrown away; the next user never gets
another's state.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import asyncpg

from yggdrasil.db.address import Address, Login, connect
from yggdrasil.errors import ScopeError, Unavailable

ACQUIRE_SECONDS_MAX: Final = 10.0
STATEMENT_SECONDS_MAX: Final = 30
LOCK_SECONDS_MAX: Final = 10
IDLE_TRANSACTION_SECONDS_MAX: Final = 60
CLOSE_SECONDS_MAX: Final = 5.0


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
        self._busy: set[asyncpg.Connection] = set()
        self._slots = 0  # open, plus being opened
        self._waiters: deque[asyncio.Future[asyncpg.Connection | None]] = deque()
        self._closed = False

    @property
    def size(self) -> int:
        """Connections open or being opened."""
        return self._slots

    @property
    def idle(self) -> int:
        """Connections open and unused."""
        return len(self._idle)

    async def acquire(self) -> asyncpg.Connection:
        """A connection with no transaction open.

        Unavailable when none comes free in time or the server is gone.
        """
        if self._closed:
            raise Unavailable("the database pool is closed")
        while self._idle:
            connection = self._idle.pop()  # the warmest first
            if not connection.is_closed():
                self._busy.add(connection)
                return connection
            self._slots -= 1
        if self._slots < self.connections_max:
            self._slots += 1
            return await self._open()
        waiter: asyncio.Future[asyncpg.Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self._acquire_seconds_max):
                connection = await waiter
        except BaseException as error:
            self._abandon(waiter)
            if isinstance(error, TimeoutError):
                raise Unavailable("all database connections are in use", retry_after_seconds=1) from error
            raise
        if connection is None:  # a slot, not a connection
            return await self._open()
        self._busy.add(connection)
        return connection

    def release(self, connection: asyncpg.Connection, *, clean: bool) -> None:
        """Give a connection back. Not clean, closed or the pool is closing: it is cut."""
        if connection not in self._busy:
            return
        self._busy.discard(connection)
        if clean and not self._closed and not connection.is_closed() and not connection.is_in_transaction():
            self._hand(connection)
            return
        if not connection.is_closed():
            connection.terminate()
        self._hand(None)

    async def close(self) -> None:
        """Refuse new users, wait a little for those at work, then cut."""
        self._closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
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

    async def _open(self) -> asyncpg.Connection:
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
            self._hand(None)
            raise
        if self._closed:
            connection.terminate()
            self._slots -= 1
            raise Unavailable("the database pool is closed")
        self._busy.add(connection)
        return connection

    def _hand(self, connection: asyncpg.Connection | None) -> None:
        """Give a connection, or the free slot of a lost one (None), to whoever waits longest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self._slots -= 1
        else:
            self._idle.append(connection)

    def _abandon(self, waiter: asyncio.Future[asyncpg.Connection | None]) -> None:
        """A waiter gave up: take it out of the queue, or pass on what it was given in the same moment."""
        if not waiter.done() or waiter.cancelled():
            waiter.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        elif waiter.exception() is None:
            self._hand(waiter.result())
