"""Registering, reading, changing and removing devices, inside a network and across its border."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.devices.conftest import House, MakeHouse
from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.db import Database
from yggdrasil.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    LimitReached,
    NotFound,
    Unauthenticated,
)
from yggdrasil.kernel import Role
from yggdrasil.wire.proof import encode_bytes, hello_payload


@dataclass
class Hello:
    token: str
    device_id: str
    proof: str
    nonce: bytes


@dataclass
class Member:
    network_id: UUID
    user_id: UUID
    device: UUID


async def test_a_registered_device_is_read_back(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    me = await make_network(database, ids, clock)
    made = await house.register(me, key, world="JÖTNAR")
    assert made.world == "Jötnar"
    read = await house.devices.get(me, "phone")
    assert read == made
    assert read.capabilities == {"models": ["m"]}
    assert not read.online
    house.online.add((me.network_id, made.id))
    assert (await house.devices.get(me, "phone")).online


async def test_the_key_must_be_held(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    me = await make_network(database, ids, clock)
    other = await make_network(database, ids, clock)
    elsewhere = await house.register(other, key)
    assert elsewhere.device_id == "phone"
    from yggdrasil.devices.model import registration_message

    replayed = encode_bytes(key.sign(registration_message(other.network_id, "phone")))
    with pytest.raises(InvalidInput) as caught:
        await house.register(me, key, proof=replayed)
    assert caught.value.field == "proof"
    with pytest.raises(NotFound):
        await house.devices.get(me, "phone")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"device_id": "with space"}, "device_id"),
        ({"device_id": "x" * 65}, "device_id"),
        ({"device_id": "phone\n"}, "device_id"),
        ({"name": ""}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"world": "Hel"}, "world"),
        ({"capabilities": {"a": "\0"}}, "capabilities"),
        ({"hardware": {"a": "x" * 20_000}}, "hardware"),
        ({"device_key": "AAAA"}, "device_key"),
        ({"proof": "!"}, "proof"),
    ],
)
async def test_bad_input_names_its_field_and_changes_nothing(
    database: Database,
    clock: ManualClock,
    ids: SeededIds,
    house: House,
    key: Ed25519PrivateKey,
    changes: dict[str, object],
    field: str,
) -> None:
    me = await make_network(database, ids, clock)
    with pytest.raises(InvalidInput) as caught:
        await house.register(me, key, **changes)
    assert caught.value.field == field
    assert (await house.devices.page(me, everyone=True, limit=10, cursor=None)).items == []


async def test_ids_are_unique_in_a_network_only(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    me = await make_network(database, ids, clock)
    stranger = await make_network(database, ids, clock)
    await house.register(me, key)
    await house.register(stranger, key)
    with pytest.raises(Conflict):
        await house.register(me, key)
    assert len((await house.devices.page(me, everyone=True, limit=10, cursor=None)).items) == 1


async def test_a_network_has_a_limit_of_devices(
    database: Database, clock: ManualClock, ids: SeededIds, make_house: MakeHouse, key: Ed25519PrivateKey
) -> None:
    house = make_house(2)
    me = await make_network(database, ids, clock)
    await house.register(me, key, "a")
    await house.register(me, key, "b")
    with pytest.raises(LimitReached):
        await house.register(me, key, "c")


async def test_pages_follow_each_other(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    me = await make_network(database, ids, clock)
    mate = await make_network(database, ids, clock, role=Role.MEMBER, home=me.network_id)
    for name in ("a", "b", "c"):
        await house.register(me, key, name)
    await house.register(mate, key, "bb")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await house.devices.page(me, everyone=True, limit=2, cursor=cursor)
        seen += [item.device_id for item in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == ["a", "b", "bb", "c"]
    mine = await house.devices.page(me, everyone=False, limit=10, cursor=None)
    assert [item.device_id for item in mine.items] == ["a", "b", "c"]
    for bad in ("%%%", "W10", "WyJhXHUwMDAwIl0"):
        with pytest.raises(InvalidInput):
            await house.devices.page(me, everyone=True, limit=2, cursor=bad)


async def test_members_read_and_managers_change(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    owner = await make_network(database, ids, clock)
    mate = await make_network(database, ids, clock, role=Role.MEMBER, home=owner.network_id)
    guest = await make_network(database, ids, clock, role=Role.GUEST, home=owner.network_id)
    made = await house.register(owner, key)
    assert (await house.devices.get(mate, "phone")).id == made.id
    nothing = {"world": None, "capabilities": None, "hardware": None}
    with pytest.raises(Forbidden):
        await house.devices.update(mate, "phone", name="Mine", **nothing)  # type: ignore[arg-type]
    with pytest.raises(Forbidden):
        await house.devices.remove(mate, "phone")
    with pytest.raises(Forbidden):
        await house.register(guest, key, "guest")
    await house.register(mate, key, "laptop")
    changed = await house.devices.update(owner, "laptop", name="Ours", **nothing)  # type: ignore[arg-type]
    assert changed.name == "Ours"
    assert changed.world == "Midgard"
    await house.devices.remove(owner, "laptop")
    assert len(house.removed) == 1
    with pytest.raises(NotFound):
        await house.devices.get(mate, "laptop")


async def test_another_network_gets_the_answer_for_absent(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    me = await make_network(database, ids, clock)
    stranger = await make_network(database, ids, clock)
    await house.register(me, key)
    answers = []
    for name in ("phone", "absent"):
        for act in (
            lambda name=name: house.devices.get(stranger, name),
            lambda name=name: house.devices.remove(stranger, name),
        ):
            with pytest.raises(NotFound) as caught:
                await act()
            answers.append(str(caught.value))
    assert len(set(answers)) == 1
    assert house.removed == []
    assert (await house.devices.get(me, "phone")).device_id == "phone"  # the control: it was there


async def test_hello_needs_token_device_and_key(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    me = await make_network(database, ids, clock)
    mate = await make_network(database, ids, clock, role=Role.MEMBER, home=me.network_id)
    stranger = await make_network(database, ids, clock)
    made = await house.register(me, key)
    house.tokens |= {"mine": me, "mate": mate, "foreign": stranger}
    house.tokens["bound"] = replace(me, device_id=made.id)
    house.tokens["elsewhere"] = replace(me, device_id=ids.uuid())
    nonce = ids.secret(32)

    def hello(token: str, device: str = "phone", signer: Ed25519PrivateKey = key, over: str = "") -> Hello:
        proof = encode_bytes(signer.sign(hello_payload(nonce, over or token)))
        return Hello(token, device, proof, nonce)

    for token in ("mine", "bound"):
        member = await house.devices.member_for_hello(hello(token))
        assert (member.network_id, member.user_id, member.device) == (me.network_id, me.user_id, made.id)
    thief = Ed25519PrivateKey.from_private_bytes(ids.secret(32))
    refused = [
        hello("unknown"),
        hello("mate"),
        hello("foreign"),
        hello("elsewhere"),
        hello("mine", device="absent"),
        hello("mine", signer=thief),
        hello("mine", over="bound"),
        Hello("mine", "phone", "short", nonce),
        replace(hello("mine"), nonce=ids.secret(32)),
    ]
    for bad in refused:
        with pytest.raises(Unauthenticated):
            await house.devices.member_for_hello(bad)


async def test_the_directory_shows_one_network(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    me = await make_network(database, ids, clock)
    stranger = await make_network(database, ids, clock)
    made = await house.register(me, key)
    await house.register(stranger, key, "theirs")
    house.online.add((me.network_id, made.id))
    shown = await house.devices.directory(Member(me.network_id, me.user_id, made.id))
    assert [(item.device_id, item.online) for item in shown] == [("phone", True)]


async def test_last_seen_is_written_once_for_many_events(
    database: Database, clock: ManualClock, ids: SeededIds, house: House, key: Ed25519PrivateKey
) -> None:
    me = await make_network(database, ids, clock)
    made = await house.register(me, key)
    member = Member(me.network_id, me.user_id, made.id)
    house.devices.presence(member, True)
    clock.advance(10)
    house.devices.presence(member, False)
    house.devices.presence(member, True)
    assert await house.devices.flush() == 1
    assert (await house.devices.get(me, "phone")).last_seen_at == clock.now()
    clock.advance(60)
    assert await house.devices.flush() == 0
    assert await house.devices.flush(present=True) == 1
    assert (await house.devices.get(me, "phone")).last_seen_at == clock.now()
    house.devices.presence(member, False)
    clock.advance(60)
    await house.devices.stop()
    assert (await house.devices.get(me, "phone")).last_seen_at < clock.now()  # type: ignore[operator]
