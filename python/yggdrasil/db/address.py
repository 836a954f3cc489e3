"""Where a PostgreSQL is: host or socket directory, port, database, TLS.

A password is handed over only when connecting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

from yggdrasil.errors import ConfigurationError, Unavailable

CONNECT_SECONDS_MAX: Final = 10.0
PORT_DEFAULT: Final = 5432
SOCKET_PATH_BYTES_MAX: Final = 107
"""`sockaddr_un.sun_path` is 108 bytes on Linux, one of them the closing zero."""

_QUERY_KEYS: Final = frozenset({"host", "sslmode"})
_SSL_MODES: Final = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})


@dataclass(frozen=True, slots=True)
class Address:
    """One database of one server. `host` beginning with "/" is a socket directory."""

    host: str
    port: int
    database: str
    ssl: str = "prefer"

    def at(self, database: str) -> Address:
        """The same server, another database."""
        return replace(self, database=database)

    @property
    def is_socket(self) -> bool:
        return self.host.startswith("/")


@dataclass(frozen=True, slots=True)
class Login:
    """A user and its password. The password is no part of the repr."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login(user={self.user!r}, password=…)"


def parse_url(url: str, *, field: str) -> tuple[Address, Login]:
    """`postgresql://user:password@host:port/database?sslmode=…` (or `?host=/socket/directory`).

    `field` is the setting it came from; the message never quotes the URL, for it holds a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(f"{field}: must begin with postgresql://", field=field)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if unknown := sorted(set(query) - _QUERY_KEYS):
        raise ConfigurationError(
            f"{field}: unknown parameter {unknown[0]!r}; known: host, sslmode", field=field
        )
    host = query.get("host") or unquote(parts.hostname or "")
    database = unquote(parts.path.lstrip("/"))
    try:
        port = parts.port or PORT_DEFAULT
    except ValueError:
        raise ConfigurationError(f"{field}: the port must be a number from 1 to 65535", field=field) from None
    ssl = query.get("sslmode", "prefer")
    if ssl not in _SSL_MODES:
        raise ConfigurationError(
            f"{field}: sslmode must be one of {', '.join(sorted(_SSL_MODES))}", field=field
        )
    for name, value in (("a host", host), ("a database", database), ("a user", parts.username)):
        if not value:
            raise ConfigurationError(f"{field}: must name {name}", field=field)
    if host.startswith("/") and len(f"{host}/.s.PGSQL.{port}".encode()) > SOCKET_PATH_BYTES_MAX:
        raise ConfigurationError(
            f"{field}: the socket path is over {SOCKET_PATH_BYTES_MAX} bytes", field=field
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Address(host=host, port=port, database=database, ssl=ssl), Login(user=user, password=password)


async def connect(address: Address, login: Login, **options: Any) -> asyncpg.Connection:
    """One raw connection. Only pools, migrations and tools of this package may call this."""
    options.setdefault("timeout", CONNECT_SECONDS_MAX)
    try:
        return await asyncpg.connect(
            host=address.host,
            port=address.port,
            database=address.database,
            user=login.user,
            password=login.password,
            ssl=False if address.is_socket else address.ssl,
            **options,
        )
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise Unavailable(f"the database refused the login of {login.user}") from error
    except (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as error:
        raise Unavailable("the database cannot be reached") from error
    except asyncpg.TooManyConnectionsError as error:
        raise Unavailable("the database has no free connection") from error
