"""The vault on a real database: one subject an address, transplants, rotation, erasure."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from tests.support import ManualClock, SeededIds
from yggdrasil.db import VaultDatabase
from yggdrasil.db.address import Login, connect
from yggdrasil.errors import NotFound, Unavailable
from yggdrasil.keys import Key, KeyRing, Keys
from yggdrasil.mimir.sealing import BrokenSealError
from yggdrasil.mimir.service import Mimir, Note

ASK, EMBLA = Note("ask@example.org", "Ask"), Note("embla@example.org", "Embla")


@pytest.fixture
def mimir(mimir_pool: VaultDatabase, keys: Keys, clock: ManualClock, ids: SeededIds) -> Mimir:
    return Mimir(mimir_pool, keys, clock, ids)


async def superuser(vault: VaultDatabase, admin: Login, sql: str) -> list[asyncpg.Record]:
    connection = await connect(vault.pool.address, admin)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(sql)
        return rows
    finally:
        await connection.close()


async def test_a_person_is_claimed_read_and_renamed(mimir: Mimir) -> None:
    subject = await mimir.claim(ASK)
    await mimir.activate(subject)
    person = await mimir.read(subject)
    assert (person.email, person.display_name) == ("ask@example.org", "Ask")
    await mimir.write_display_name(subject, "Áskur")
    assert (await mimir.read(subject)).display_name == "Áskur"
    assert "ask" not in repr(person)
    assert "Ask" not in repr(person)
    assert "ask" not in repr(ASK)


async def test_one_address_is_one_subject_also_under_a_race(mimir: Mimir, mimir_pool: VaultDatabase) -> None:
    subjects = await asyncio.gather(*(mimir.claim(ASK) for _ in range(20)))
    assert len(set(subjects)) == 1
    assert await mimir.claim(Note("ASK@Example.org")) == subjects[0]
    assert await mimir.claim(EMBLA) != subjects[0]
    async with mimir_pool.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM vault.subjects") == 2


async def test_flows_are_remembered_until_they_expire(
    mimir: Mimir, clock: ManualClock, ids: SeededIds, mimir_pool: VaultDatabase
) -> None:
    flow = ids.uuid()
    await mimir.remember(flow, ASK.address, ASK.display_name, clock.now() + timedelta(seconds=600))
    assert await mimir.recall(flow) == ASK
    assert await mimir.recall(ids.uuid()) is None
    clock.advance(600)
    assert await mimir.recall(flow) is None
    await mimir.sweep_flows()
    async with mimir_pool.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM vault.flows") == 0


@pytest.mark.parametrize(
    "transplant",
    [
        # another person's field · another field · another version · another person's key
        "UPDATE vault.fields f SET sealed = (SELECT sealed FROM vault.fields o WHERE o.field = f.field"
        " AND o.subject <> f.subject)",
        "UPDATE vault.fields f SET sealed = (SELECT sealed FROM vault.fields o WHERE o.field <> f.field"
        " AND o.subject = f.subject)",
        "UPDATE vault.fields SET key_version = 2",
        "UPDATE vault.subjects s SET wrapped_key = (SELECT wrapped_key FROM vault.subjects o"
        " WHERE o.subject <> s.subject)",
    ],
)
async def test_moved_ciphertexts_do_not_open(
    mimir: Mimir, mimir_pool: VaultDatabase, admin: Login, transplant: str
) -> None:
    subjects = [await mimir.claim(note) for note in (ASK, EMBLA)]
    for subject in subjects:
        await mimir.read(subject)
    await superuser(mimir_pool, admin, transplant)
    for subject in subjects:
        with pytest.raises(BrokenSealError):
            await mimir.read(subject)


async def test_a_flow_cannot_be_read_as_another(
    mimir: Mimir, mimir_pool: VaultDatabase, clock: ManualClock, ids: SeededIds, admin: Login
) -> None:
    flows = [ids.uuid(), ids.uuid()]
    for flow, note in zip(flows, (ASK, EMBLA), strict=True):
        await mimir.remember(flow, note.address, None, clock.now() + timedelta(seconds=60))
    swap = (
        "UPDATE vault.flows f SET (wrapped_key, sealed) ="
        " (SELECT o.wrapped_key, o.sealed FROM vault.flows o WHERE o.flow <> f.flow)"
    )
    await superuser(mimir_pool, admin, swap)
    for flow in flows:
        with pytest.raises(BrokenSealError):
            await mimir.recall(flow)


async def test_erasure_leaves_nothing_and_cannot_be_undone(
    mimir: Mimir, mimir_pool: VaultDatabase, clock: ManualClock, ids: SeededIds, keys: Keys, admin: Login
) -> None:
    gone, stays = await mimir.claim(ASK), await mimir.claim(EMBLA)
    for subject in (gone, stays):
        await mimir.activate(subject)
    kept = await superuser(mimir_pool, admin, "SELECT subject, field, sealed, key_version FROM vault.fields")
    assert await mimir.erase(gone) is True
    assert await mimir.erase(gone) is False
    with pytest.raises(NotFound):
        await mimir.read(gone)
    with pytest.raises(NotFound):
        await mimir.write_display_name(gone, "x")
    with pytest.raises(Unavailable):
        await mimir.activate(gone)
    assert (await mimir.read(stays)).email == EMBLA.address
    rows = await superuser(mimir_pool, admin, "SELECT subject, state, wrapped_key FROM vault.subjects")
    assert {row["subject"]: row["state"] for row in rows} == {gone: "erased", stays: "active"}
    assert all((row["wrapped_key"] is None) == (row["subject"] == gone) for row in rows)
    # A backup of the fields alone is worth nothing: their key is destroyed.
    assert len([row for row in kept if row["subject"] == gone]) == 2
    assert await mimir.claim(ASK) != gone


async def test_only_stale_pending_subjects_are_swept(mimir: Mimir, clock: ManualClock) -> None:
    stale, active = await mimir.claim(ASK), await mimir.claim(EMBLA)
    await mimir.activate(active)
    clock.advance(700)
    before = clock.now() - timedelta(seconds=600)
    assert await mimir.pending(before) == [stale]
    assert await mimir.erase_pending(active, before) is False
    await mimir.claim(ASK)  # somebody signs in between the listing and the sweep
    assert await mimir.erase_pending(stale, before) is False
    clock.advance(700)
    assert await mimir.erase_pending(stale, clock.now() - timedelta(seconds=600)) is True


async def test_keys_rotate(
    mimir: Mimir, mimir_pool: VaultDatabase, keys: Keys, clock: ManualClock, ids: SeededIds
) -> None:
    subjects = [await mimir.claim(note) for note in (ASK, EMBLA)]
    fresh = Key("k2", ids.secret(32))
    both = replace(keys, key_encryption=KeyRing((fresh, *keys.key_encryption.keys)))
    only_new = Mimir(mimir_pool, replace(keys, key_encryption=KeyRing((fresh,))), clock, ids)
    rotating = Mimir(mimir_pool, both, clock, ids)
    with pytest.raises(BrokenSealError):
        await only_new.read(subjects[0])
    assert await rotating.rewrap(limit=1) == 1
    assert [(await rotating.read(subject)).email for subject in subjects] == [ASK.address, EMBLA.address]
    assert await rotating.rewrap() == 1
    assert await rotating.rewrap() == 0
    assert (await only_new.read(subjects[1])).email == EMBLA.address
    with pytest.raises(BrokenSealError):
        await mimir.read(subjects[0])


async def test_a_rotated_index_key_still_finds_old_addresses(
    mimir: Mimir, mimir_pool: VaultDatabase, keys: Keys, clock: ManualClock, ids: SeededIds
) -> None:
    subject = await mimir.claim(ASK)
    ring = KeyRing((Key("k2", ids.secret(32)), *keys.blind_index.keys))
    rotated = Mimir(mimir_pool, replace(keys, blind_index=ring), clock, ids)
    assert await rotated.claim(ASK) == subject


async def test_another_key_sees_nothing(
    mimir: Mimir, mimir_pool: VaultDatabase, clock: ManualClock, ids: SeededIds
) -> None:
    subject = await mimir.claim(ASK)
    stranger = Mimir(mimir_pool, Keys.generate(ids.secret), clock, ids)
    with pytest.raises(BrokenSealError):
        await stranger.read(subject)
    assert await stranger.claim(ASK) != subject  # its index is another, too


async def test_nonces_never_repeat(mimir: Mimir, mimir_pool: VaultDatabase, admin: Login) -> None:
    for number in range(50):
        await mimir.claim(Note(f"user{number}@example.org", "x"))
    rows = await superuser(
        mimir_pool,
        admin,
        "SELECT substr(sealed, 10, 12) AS nonce FROM vault.fields"
        " UNION ALL SELECT substr(wrapped_key, 10, 12) FROM vault.subjects",
    )
    assert len({row["nonce"] for row in rows}) == len(rows) == 150
