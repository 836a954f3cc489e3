"""A superuser edits the real tables, past all policies: the verifier finds each edit and names the row."""

from __future__ import annotations

import random

import pytest

from tests.audit.conftest import Stand, found
from tests.conftest import SEED
from tests.support import as_superuser
from yggdrasil.audit.chain import FORMAT, FORMATS, row_hash
from yggdrasil.audit.store_verify import select_rows
from yggdrasil.db.address import Login
from yggdrasil.kernel import System

COLUMNS = {
    "audit_events": {
        "kind": "'key.revoked'",
        "actor_kind": "'key'",
        "actor_id": "subject_id",
        "user_id": "NULL",
        "subject_kind": "'device'",
        "subject_id": "NULL",
        "detail": "detail || ' '",
        "at": "at + interval '1 microsecond'",
        "event_id": "subject_id",
    },
    "audit_links": {
        "previous_hash": "sha256(previous_hash)",
        "hash": "set_byte(hash, 31, get_byte(hash, 31) # 1)",
        "format": "2",
        "number": "number + 1000",
    },
}
EVERY = [(table, column) for table, columns in COLUMNS.items() for column in columns]


@pytest.fixture
async def grown(stand: Stand) -> Stand:
    for _ in range(3):
        for scope in stand.networks:
            await stand.record(scope, 3)
        await stand.chainer().drain()
    assert (await stand.verify()).ok
    return stand


def test_every_column_is_tried() -> None:
    tried = {column for columns in COLUMNS.values() for column in columns}
    assert tried | {"network_id"} == set(FORMATS[FORMAT]) | {"hash"}


async def test_a_changed_column_is_found_at_its_row(grown: Stand, admin: Login) -> None:
    ours = grown.networks[0].network_id
    await save(grown, admin)
    for table, column in EVERY:
        where = "number = 5"
        if table == "audit_events":
            where = (
                "event_id = (SELECT event_id FROM tenant.audit_links WHERE network_id = $1 AND number = 5)"
            )
        await as_superuser(
            grown.database,
            admin,
            f"UPDATE tenant.{table} SET {column} = {COLUMNS[table][column]}"
            f" WHERE network_id = $1 AND {where}",
            ours,
        )
        assert (ours, 5) in found(await grown.verify()), column
        await restore(grown, admin)
        assert (await grown.verify()).ok, column


async def test_rows_that_go_come_or_change_places_are_found(grown: Stand, admin: Login) -> None:
    ours, theirs = (scope.network_id for scope in grown.networks)
    of = "(SELECT event_id FROM tenant.audit_links WHERE network_id = $1 AND number = 4)"
    edits = {
        "the event of a row": (f"DELETE FROM tenant.audit_events WHERE event_id = {of}", (ours, 4)),
        "a link": ("DELETE FROM tenant.audit_links WHERE network_id = $1 AND number = 4", (ours, 4)),
        "the tail with its heads": (
            "WITH h AS (DELETE FROM tenant.audit_heads WHERE network_id = $1 AND number > 3),"
            " l AS (DELETE FROM tenant.audit_links WHERE network_id = $1 AND number > 3 RETURNING event_id)"
            " DELETE FROM tenant.audit_events WHERE event_id IN (SELECT event_id FROM l)",
            (ours, 4),
        ),
        "all of a network": (
            "WITH h AS (DELETE FROM tenant.audit_heads WHERE network_id = $1),"
            " l AS (DELETE FROM tenant.audit_links WHERE network_id = $1)"
            " DELETE FROM tenant.audit_events WHERE network_id = $1",
            (ours, 1),
        ),
        "a last head": ("DELETE FROM tenant.audit_heads WHERE network_id = $1 AND number = 9", (ours, 9)),
        "a head in the middle": (
            "DELETE FROM tenant.audit_heads WHERE network_id = $1 AND number = 6",
            (ours, 6),
        ),
        "a swap": (
            "UPDATE tenant.audit_events e SET detail = o.detail, at = o.at FROM tenant.audit_events o,"
            " tenant.audit_links l, tenant.audit_links m WHERE l.network_id = $1 AND m.network_id = $1 AND"
            " l.number IN (4, 5) AND m.number = 9 - l.number AND e.event_id = l.event_id AND"
            " o.event_id = m.event_id",
            (ours, 4),
        ),
        "a move to another network": (
            f"WITH e AS (UPDATE tenant.audit_events SET network_id = '{theirs}' WHERE event_id = {of}), d AS"
            " (DELETE FROM tenant.audit_heads WHERE network_id = $1)"
            f" UPDATE tenant.audit_links SET network_id = '{theirs}', number = 10 WHERE network_id = $1"
            " AND number = 4",
            (theirs, 10),
        ),
    }
    await save(grown, admin)
    for name, (sql, where) in edits.items():
        await as_superuser(grown.database, admin, sql, ours)
        assert where in found(await grown.verify()), name
        await restore(grown, admin)
        assert (await grown.verify()).ok, name


async def test_events_outside_of_the_chain_are_found(grown: Stand, admin: Login) -> None:
    ours = grown.networks[0]
    await save(grown, admin)
    # Before they are linked: the list of what waits is cut, or the event itself is.
    for table, why in (("audit_pending", "in no chain"), ("audit_events", "is gone")):
        events = await grown.record(ours)
        await as_superuser(
            grown.database, admin, f"DELETE FROM tenant.{table} WHERE event_id = $1", events[0]
        )
        report = await grown.verify()
        assert found(report) == [(ours.network_id, 0)]
        assert why in report.bad[0].why
        await restore(grown, admin)
    # Linked, and put in line again.
    await as_superuser(
        grown.database,
        admin,
        "INSERT INTO tenant.audit_pending SELECT network_id, event_id FROM tenant.audit_links"
        " WHERE network_id = $1 AND number = 2",
        ours.network_id,
    )
    assert "already" in (await grown.verify()).bad[0].why


async def test_a_suffix_made_anew_by_who_knows_the_algorithm(grown: Stand, admin: Login) -> None:
    """With every hash right, and heads removed, kept, or signed by a key of the attacker's own."""
    ours = grown.networks[0].network_id
    source = random.Random(SEED)
    await save(grown, admin)
    for at in source.sample(range(1, 10), 4):
        for heads in ("keep", "delete", "fit"):
            await rewrite(grown, admin, at)
            if heads == "delete":
                await as_superuser(
                    grown.database,
                    admin,
                    "DELETE FROM tenant.audit_heads WHERE network_id = $1 AND number >= $2",
                    ours,
                    at,
                )
            elif heads == "fit":
                await as_superuser(
                    grown.database,
                    admin,
                    "UPDATE tenant.audit_heads h SET hash = l.hash FROM tenant.audit_links l"
                    " WHERE l.network_id = h.network_id AND l.number = h.number AND h.network_id = $1",
                    ours,
                )
            rows = found(await grown.verify())
            assert len(rows) == 1
            assert rows[0][0] == ours
            assert rows[0][1] >= at
            await restore(grown, admin)
            assert (await grown.verify()).ok


async def rewrite(stand: Stand, admin: Login, at: int) -> None:
    ours = stand.networks[0].network_id
    async with stand.database.transaction(System("test")) as tx:
        rows = await select_rows(tx, ours, at - 1, 100)
    rows[0]["detail"] = '{"number":99}'
    await as_superuser(
        stand.database,
        admin,
        "UPDATE tenant.audit_events SET detail = $2 WHERE event_id = $1",
        rows[0]["event_id"],
        rows[0]["detail"],
    )
    previous = rows[0]["previous_hash"]
    for row in rows:
        row["previous_hash"] = previous
        previous = row_hash(row)
        await as_superuser(
            stand.database,
            admin,
            "UPDATE tenant.audit_links SET previous_hash = $3, hash = $4"
            " WHERE network_id = $1 AND number = $2",
            ours,
            row["number"],
            row["previous_hash"],
            previous,
        )


TABLES = ("audit_events", "audit_links", "audit_heads", "audit_pending")


async def save(stand: Stand, admin: Login) -> None:
    for table in TABLES:
        await as_superuser(stand.database, admin, f"CREATE TABLE public.{table} AS TABLE tenant.{table}")


async def restore(stand: Stand, admin: Login) -> None:
    for table in TABLES:
        await as_superuser(stand.database, admin, f"TRUNCATE tenant.{table}")
        await as_superuser(stand.database, admin, f"INSERT INTO tenant.{table} TABLE public.{table}")
