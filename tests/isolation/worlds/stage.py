"""Where the houses stand: one PostgreSQL of their own, two databases for each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.isolation.worlds.house import Ground, House
from tests.support import ManualClock, SeededIds
from yggdrasil.db.bootstrap import create_databases, prepare
from yggdrasil.db.embedded import EmbeddedPostgres
from yggdrasil.db.migrate import MAIN, MIMIR
from yggdrasil.keys import Keys

KEYS_SEED = 2_026
"""Keys are part of both worlds; the same in every process, so that a seed means the same everywhere."""


class Stage:
    """`alone` and `crowded`, each over databases of its own."""

    def __init__(self, alone: House, crowded: House, server: EmbeddedPostgres) -> None:
        self.alone, self.crowded, self.server = alone, crowded, server


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start PostgreSQL, migrate, make the houses; all gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="yggdrasil-worlds-"))
    directory.chmod(0o711)
    keys = Keys.generate(SeededIds(KEYS_SEED).secret)
    server = EmbeddedPostgres(directory, password=keys.role_password("postgres"), durable=False)
    server.start()
    try:
        with asyncio.Runner() as runner:
            grounds = [runner.run(_ground(server, keys, name)) for name in ("alone", "crowded")]
        houses = [House(ground) for ground in grounds]
        try:
            yield Stage(*houses, server)
        finally:
            for house in houses:
                house.close()
    finally:
        server.stop()
        shutil.rmtree(server.home, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


async def _ground(server: EmbeddedPostgres, keys: Keys, name: str) -> Ground:
    names = f"main_{name}", f"mimir_{name}"
    await create_databases(server, *names)
    clock = ManualClock()
    for database, plan in zip(names, (MAIN, MIMIR), strict=True):
        await prepare(server.address(database), server.superuser, plan, keys, clock)
    return Ground(server.address(names[0]), server.address(names[1]), server.superuser, keys)


def environment_number(name: str, default: int) -> int:
    return int(os.environ.get(name, "") or default)
