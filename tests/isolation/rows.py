"""Every row of a victim in both databases, read past all policies. The tables come from the catalog."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from tests.isolation.forms import UUID_TEXT
from yggdrasil.db.address import connect
from yggdrasil.db.bootstrap import MAIN_DATABASE, MIMIR_DATABASE
from yggdrasil.services import Services

MOVING: Final = {"tenant.devices": ("last_seen_at",)}
"""Columns that change while nobody does anything: a device is seen as long as it is online."""

_OF_THE_SERVER: Final = ("node_id", "boot_id")
_TABLES: Final = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY 1
"""

Taken = dict[str, tuple[int, str]]
"""Of each table how many rows are the victim's, and a digest of them."""


@dataclass
class Rows:
    """`theirs`: every id of the victim, as text. A row is the victim's if one of them stands in it, but not
    one of `mine`, the attacker's: what he did with an id that he had is his own."""

    databases: dict[str, asyncpg.Connection]
    theirs: tuple[str, ...]
    mine: tuple[str, ...]

    @classmethod
    async def open(cls, services: Services, theirs: Iterable[str], mine: Iterable[str]) -> Rows:
        embedded = services.databases.embedded
        assert embedded is not None
        found = {
            name: await connect(embedded.address(name), embedded.superuser)
            for name in (MAIN_DATABASE, MIMIR_DATABASE)
        }
        rows = cls(found, _written(theirs), _written(mine))
        await rows._add_related()
        return rows

    async def close(self) -> None:
        for database in self.databases.values():
            await database.close()

    async def _add_related(self) -> None:
        """What the victim's own rows name (payments, holds, sign-ins …), and the keyed hash of the address
        that sign-in counts under."""
        keys = await self.databases[MAIN_DATABASE].fetch(
            "SELECT DISTINCT encode(address_key, 'hex') AS key FROM identity.login_flows"
            " WHERE flow::text = ANY($1)",
            list(self.theirs),
        )
        self.theirs += tuple(row["key"] for row in keys)
        related: set[str] = set()
        for name, table in await self.tables():
            # Rows of its own alone: one that joins two networks names the other's things too.
            for row in await self.databases[name].fetch(
                f"SELECT to_jsonb(t)::text AS said FROM {table} t"
                " WHERE coalesce(to_jsonb(t)->>'network_id', to_jsonb(t)->>'user_id') = ANY($1)",
                list(self.theirs),
            ):
                said = json.loads(row["said"])
                told = {column: value for column, value in said.items() if column not in _OF_THE_SERVER}
                related.update(UUID_TEXT.findall(json.dumps(told)))
        self.theirs = tuple({*self.theirs, *_written(related)})

    def _patterns(self) -> tuple[str, str]:
        return "|".join(self.theirs), "|".join(self.mine)

    async def tables(self) -> list[tuple[str, str]]:
        """(database, table), all there are."""
        return [
            (name, row["name"])
            for name, database in self.databases.items()
            for row in await database.fetch(_TABLES)
        ]

    async def taken(self) -> Taken:
        """The victim's rows as they are now."""
        return {f"{name}.{table}": await self.of(name, table) for name, table in await self.tables()}

    async def of(self, name: str, table: str) -> tuple[int, str]:
        row: Any = await self.databases[name].fetchrow(
            f"""
            SELECT count(*) AS rows, coalesce(md5(string_agg(md5(said), '' ORDER BY md5(said))), '') AS digest
            FROM (SELECT (to_jsonb(t) - $3::text[])::text AS said FROM {table} t) AS all_rows
            WHERE said ~ $1 AND NOT said ~ $2
            """,
            *self._patterns(),
            list(MOVING.get(table, ())),
        )
        return row["rows"], row["digest"]


def _written(ids: Iterable[str]) -> tuple[str, ...]:
    """As they stand in a row: as text, and without hyphens inside bytes."""
    return tuple(form for one in ids if one for form in {one, one.replace("-", "")})


def changed(before: Taken, after: Taken) -> list[str]:
    """The tables whose rows of the victim are others now."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
