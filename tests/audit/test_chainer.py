"""The job that links: nothing is lost, nothing forks, and what somebody tampered with is not signed."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from tests.audit.conftest import Stand
from tests.support import as_superuser, make_network
from yggdrasil.audit import chainer as module
from yggdrasil.audit import record, store
from yggdrasil.audit.chain import FORMAT, FORMATS, HEAD_COLUMNS
from yggdrasil.audit.heads_file import HeadsFile, read
from yggdrasil.audit.tables import AuditEventRow, AuditHeadRow, AuditLinkRow
from yggdrasil.db.address import Login
from yggdrasil.errors import ConfigurationError
from yggdrasil.kernel import PLATFORM_NETWORK, Identity, Market, Network, Role, Settle, System

TABLES = ("tenant.audit_events", "tenant.audit_links", "tenant.audit_heads")


async def columns(stand: Stand, admin: Login, table: str) -> set[str]:
    rows = await as_superuser(
        stand.database,
        admin,
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
        " AND NOT attisdropped",
        table,
    )
    return {str(row["attname"]) for row in rows}


async def test_every_column_there_is_is_hashed_or_signed(stand: Stand, admin: Login) -> None:
    """From the catalog: a column that is added needs a format of its own, or this fails."""
    row = await columns(stand, admin, "tenant.audit_events") | await columns(
        stand, admin, "tenant.audit_links"
    )
    assert row == set(FORMATS[FORMAT]) | {"hash"}
    assert await columns(stand, admin, "tenant.audit_heads") == {*HEAD_COLUMNS, "signature"}
    # The control: the catalog is really asked.
    await as_superuser(stand.database, admin, "ALTER TABLE tenant.audit_events ADD COLUMN added_later text")
    assert "added_later" in await columns(stand, admin, "tenant.audit_events")
    assert {row["format"] for row in [{"format": max(FORMATS)}]} == {FORMAT}


async def test_a_column_added_later_cannot_hold_anything_in_old_rows(stand: Stand, admin: Login) -> None:
    ours = stand.networks[0]
    await stand.record(ours, 3)
    await stand.chainer().drain()
    await as_superuser(stand.database, admin, "ALTER TABLE tenant.audit_events ADD COLUMN added_later text")
    assert (await stand.verify()).ok
    await as_superuser(
        stand.database,
        admin,
        "UPDATE tenant.audit_events SET added_later = 'x' WHERE network_id = $1",
        ours.network_id,
    )
    assert [(one.network_id, one.number) for one in (await stand.verify()).bad] == [(ours.network_id, 1)]


async def test_what_is_rolled_back_is_not_in_the_chain_and_what_is_committed_is(stand: Stand) -> None:
    ours, theirs = stand.networks
    kept = await stand.record(ours, 3)

    async def fails() -> None:
        async with stand.database.transaction(ours) as tx:
            await record(tx, stand.event(ours))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fails()
    kept += await stand.record(ours)
    other = await stand.record(theirs, 2)
    assert await stand.chainer().drain() == len(kept) + len(other)
    async with stand.database.transaction(System("test")) as tx:
        rows = await tx.fetch("SELECT * FROM tenant.audit_links ORDER BY network_id, number")
    assert len(rows) == 7
    for scope, events in ((ours, kept), (theirs, other)):
        mine = [row for row in rows if row["network_id"] == scope.network_id]
        assert [row["number"] for row in mine] == list(range(1, len(events) + 1))
        assert [row["event_id"] for row in mine] == events
    report = await stand.verify()
    assert report.ok
    # And the platform's.
    assert (report.chains, report.rows, report.heads, report.kept) == (3, 7, 3, 3)
    assert report.waiting == 0


async def test_a_round_asks_the_database_only_when_there_may_be_something(stand: Stand) -> None:
    chainer = stand.chainer()

    async def uses() -> int:
        async with stand.database.transaction(System("test")) as tx:
            found: int = await tx.fetchval("SELECT count(*) FROM jobs.audit WHERE job = $1", store.JOB)
        return found

    assert await chainer.run_once() == 0
    stand.clock.advance(module.AFTER_SECONDS + 1)
    before = await uses()
    for _ in range(5):
        stand.clock.advance(1)
        await chainer.run_once()
    assert await uses() == before
    await stand.record(stand.networks[0])
    assert await chainer.run_once() == 1
    # What another node recorded, which said nothing here.
    await stand.record(stand.networks[0])
    chainer._seen = store.recorded.count
    stand.clock.advance(module.AFTER_SECONDS + 1)
    assert await chainer.run_once() == 0
    stand.clock.advance(module.IDLE_SECONDS)
    assert await chainer.run_once() == 1


@pytest.mark.parametrize("locked", [True, False])
async def test_two_nodes_at_once_make_one_chain(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, locked: bool
) -> None:
    """Also if the lock failed: then the key of the links stops the second."""
    if not locked:

        async def no_lock(_: object) -> bool:
            return True

        monkeypatch.setattr(store, "lock", no_lock)
    files = [tmp_path / f"node-{number}.jsonl" for number in range(2)]
    nodes = [stand.chainer(file=file) for file in files]
    collisions = 0

    async def work(scope: Network) -> None:
        for _ in range(15):
            await stand.record(scope, 2)
            await asyncio.sleep(0)

    async def link(node: module.Chainer) -> None:
        nonlocal collisions
        for _ in range(20):
            try:
                await node.drain()
            except asyncpg.UniqueViolationError:
                collisions += 1
            await asyncio.sleep(0)

    await asyncio.gather(*map(work, stand.networks), *map(link, nodes))
    for node in nodes:
        await node.drain()
    report = await stand.verify(*(file for file in files if file.exists()))
    assert report.ok, report.bad
    assert (report.rows, report.waiting) == (61, 0)
    assert not (locked and collisions), "the lock lets one link at a time"
    async with stand.database.transaction(System("test")) as tx:
        assert await tx.fetchval("SELECT count(*) FROM tenant.audit_links") == 61


async def test_a_crash_before_the_heads_are_in_the_file_is_made_good(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = stand.networks[0]
    await stand.record(ours, 2)
    await stand.chainer().drain()
    await stand.record(ours, 2)
    dying = stand.chainer()

    def kept() -> list[int]:
        return [head.number for head in read(stand.file) if head.network_id == ours.network_id]

    async def dies(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Chainer, "_keep", dies)
    dying._caught_up = True
    with pytest.raises(KeyboardInterrupt):
        await dying.drain()
    monkeypatch.undo()
    assert kept() == [2]
    # And the last line was torn.
    with stand.file.open("ab") as file:
        file.write(b'{"network_id":"')
    stand.clock.advance(20)
    await stand.chainer().drain()
    assert kept() == [2, 4]
    assert (await stand.verify()).ok


async def test_a_file_that_cannot_be_written_stops_nothing_and_is_written_later(
    stand: Stand, tmp_path: Path
) -> None:
    blocked = tmp_path / "taken"
    blocked.write_text("a file, where a directory is needed")
    chainer = stand.chainer(file=blocked / "heads.jsonl")
    await stand.record(stand.networks[0], 2)
    assert await chainer.drain() == 2
    blocked.unlink()
    await stand.record(stand.networks[1])
    assert await chainer.drain() == 1
    assert (await stand.verify(blocked / "heads.jsonl")).kept >= 2
    assert oct((blocked / "heads.jsonl").stat().st_mode)[-3:] == "600"


def test_a_line_that_is_no_head_is_named(tmp_path: Path) -> None:
    path = tmp_path / "heads"
    path.write_text("nonsense\n")
    with pytest.raises(ConfigurationError, match="line 1"):
        list(read(path))
    assert HeadsFile(path).last() is None
    with pytest.raises(ConfigurationError, match="cannot read"):
        list(read(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("DELETE FROM tenant.audit_heads WHERE network_id = $1", "not signed"),
        (
            "UPDATE tenant.audit_heads SET signature = set_byte(signature, 0, get_byte(signature, 0) # 1)"
            " WHERE network_id = $1",
            "key of ours",
        ),
        ("UPDATE tenant.audit_links SET hash = sha256(hash) WHERE network_id = $1", "not signed"),
        ("DELETE FROM tenant.audit_links WHERE network_id = $1", "are gone"),
        (
            "WITH l AS (DELETE FROM tenant.audit_links WHERE network_id = $1 AND number > 2)"
            " DELETE FROM tenant.audit_heads WHERE network_id = $1 AND number > 2",
            "was here before",
        ),
    ],
)
async def test_a_chain_whose_end_was_tampered_with_is_not_extended(
    stand: Stand, admin: Login, sql: str, why: str
) -> None:
    ours, theirs = stand.networks
    chainer = stand.chainer()
    for _ in range(2):
        await stand.record(ours, 2)
        await chainer.drain()
    await as_superuser(stand.database, admin, sql, ours.network_id)
    await stand.record(ours)
    await stand.record(theirs)
    # The other network's chain goes on; ours waits, and nothing of it is signed.
    assert await chainer.drain() == 1
    assert why in chainer.broken[ours.network_id]
    assert await chainer.drain() == 0
    report = await stand.verify()
    assert {one.network_id for one in report.bad} == {ours.network_id}
    assert report.waiting == 1


async def test_no_role_changes_or_deletes_a_row(stand: Stand, admin: Login) -> None:
    await stand.record(stand.networks[0])
    await stand.chainer().drain()
    for table in TABLES:
        rows = await as_superuser(
            stand.database,
            admin,
            "SELECT r.rolname, v.verb FROM pg_roles r, unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) v (verb)"
            " WHERE r.rolname LIKE 'ygg\\_%' AND r.rolname NOT LIKE '%owner'"
            " AND (has_table_privilege(r.rolname, $1, v.verb) OR (v.verb = 'UPDATE' AND"
            " has_any_column_privilege(r.rolname, $1, v.verb)))",
            table,
        )
        assert rows == []
    ours = stand.networks[0]
    scopes = (ours, Identity(ours.network_id, ours.user_id), Settle((ours.network_id,)), Market())
    for table in TABLES:
        for scope in (*scopes, System(store.JOB), System("operator")):
            for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET network_id = network_id"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with stand.database.transaction(scope) as tx:
                        await tx.execute(sql)


async def test_who_may_write_what(stand: Stand) -> None:
    ours, theirs = stand.networks
    # Nobody writes into another network's chain.
    for scope in (ours, Identity(ours.network_id, ours.user_id), System("another-job")):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with stand.database.transaction(scope) as tx:
                await record(tx, stand.event(theirs))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with stand.database.transaction(ours) as tx:
            await record(tx, stand.event(Network(PLATFORM_NETWORK, ours.user_id)))
    # Links and heads are one job's, and so is the list of what waits.
    for scope in (ours, System("operator")):
        for table in ("tenant.audit_links", "tenant.audit_heads"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with stand.database.transaction(scope) as tx:
                    await tx.execute(f"INSERT INTO {table} (network_id) VALUES ($1)", ours.network_id)
    await stand.record(ours)
    async with stand.database.transaction(System("operator")) as tx:
        assert await tx.execute("DELETE FROM tenant.audit_pending") == "DELETE 0"
    # A network reads its own, if its owner or an admin asks.
    await stand.record(theirs)
    await stand.chainer().drain()
    member = await make_network(
        stand.database, stand.ids, stand.clock, role=Role.MEMBER, home=ours.network_id
    )
    for scope, count in ((ours, 1), (member, 0)):
        async with stand.database.transaction(scope) as tx:
            for table in TABLES:
                rows = await tx.fetch(f"SELECT network_id FROM {table}")
                assert [row["network_id"] for row in rows] == [ours.network_id] * count


async def test_uses_of_system_are_counted_in_the_platforms_chain(stand: Stand, admin: Login) -> None:
    chainer = stand.chainer()
    await chainer.drain()
    start = stand.clock.now()
    for _ in range(7):
        async with stand.database.transaction(System("reader")) as tx:
            await tx.fetchval("SELECT 1")
        stand.clock.advance(100)
    stand.clock.advance(module.CROSSED_SECONDS)
    await chainer.drain()
    stand.clock.advance(2 * module.CROSSED_SECONDS)
    await chainer.drain()
    async with stand.database.transaction(System("test")) as tx:
        rows = await tx.fetch(
            "SELECT detail::jsonb ->> 'since' AS since, detail::jsonb ->> 'to' AS until,"
            " coalesce((detail::jsonb -> 'uses' ->> 'reader')::int, 0) AS uses FROM tenant.audit_events"
            " WHERE network_id = $1 AND kind = 'scope.crossed' ORDER BY at",
            PLATFORM_NETWORK,
        )
    assert sum(row["uses"] for row in rows) == 7
    # Without a gap, so that no use falls between two counts.
    assert all(left["until"] == right["since"] for left, right in pairwise(rows))
    assert rows[0]["since"] <= start.isoformat()
    assert (await stand.verify()).ok
    await as_superuser(
        stand.database,
        admin,
        "DELETE FROM jobs.audit WHERE id IN (SELECT id FROM jobs.audit WHERE job = 'reader' LIMIT 1)",
    )
    bad = (await stand.verify()).bad
    assert len(bad) == 1
    assert "uses of System by reader" in bad[0].why


def test_the_tables_are_the_three(stand: Stand) -> None:
    names = {
        f"{row._meta.schema}.{row._meta.tablename}" for row in (AuditEventRow, AuditLinkRow, AuditHeadRow)
    }
    assert names == set(TABLES)
