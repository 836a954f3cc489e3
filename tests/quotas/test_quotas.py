"""Quotas of networks: what one uses up is refused to that one alone."""

from __future__ import annotations

import pytest

from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.admin.credential import OperatorScope
from yggdrasil.db import Database
from yggdrasil.errors import InvalidInput, LimitReached, NotFound
from yggdrasil.kernel import SENTINEL_NETWORKS, Network
from yggdrasil.quotas import service
from yggdrasil.quotas.service import CHUNKED_BYTES, Quotas, body_bytes_of
from yggdrasil.quotas.tiers import QUOTAS, Quota, Tier

SMALL = Quota(devices=2, sockets=2, requests_per_second=1, requests_burst=4, bytes_per_hour=3_600)
LARGE = Quota(devices=9, sockets=9, requests_per_second=9, requests_burst=99, bytes_per_hour=99_999)
TIERS = dict.fromkeys(Tier, SMALL) | {Tier.PRO: LARGE}


@pytest.fixture
def quotas(database: Database, clock: ManualClock, ids: SeededIds) -> Quotas:
    return Quotas(database, clock, ids, default=Tier.FREE, quotas=TIERS)


def somebody(ids: SeededIds, network: Network | None = None) -> Network:
    return Network(ids.uuid() if network is None else network.network_id, ids.uuid())


def asked(quotas: Quotas, scope: Network, times: int, size: int = 0) -> int:
    """How many of so many requests were let in."""
    let_in = 0
    for _ in range(times):
        try:
            quotas.request(scope, size)
        except LimitReached:
            continue
        let_in += 1
    return let_in


def test_every_tier_has_a_quota_and_none_is_below_the_free_one() -> None:
    assert set(QUOTAS) == set(Tier)
    free = QUOTAS[Tier.FREE]
    for quota in QUOTAS.values():
        for name in Quota.__slots__:
            assert getattr(quota, name) >= getattr(free, name) > 0


def test_a_refusal_names_the_limit_the_use_and_the_time(quotas: Quotas, ids: SeededIds) -> None:
    scope = somebody(ids)
    assert asked(quotas, scope, 4) == 4
    with pytest.raises(LimitReached, match="At most 4 requests of one network at once; 4 are used") as told:
        quotas.request(scope)
    assert (told.value.limit, told.value.used, told.value.retry_after_seconds) == (4, 4, 1)


def test_one_network_does_not_feel_another(quotas: Quotas, ids: SeededIds, clock: ManualClock) -> None:
    a, b = somebody(ids), somebody(ids)
    assert asked(quotas, a, 100) == 4
    assert asked(quotas, b, 4) == 4
    clock.advance(2)
    assert asked(quotas, a, 100) == 2


def test_one_member_cannot_starve_another(quotas: Quotas, ids: SeededIds, clock: ManualClock) -> None:
    greedy = somebody(ids)
    modest = somebody(ids, greedy)
    asked(quotas, greedy, 100)
    asked(quotas, modest, 1)
    let_in = {greedy: 0, modest: 0}
    for _ in range(200):
        clock.advance(0.5)
        let_in[greedy] += asked(quotas, greedy, 10)
        let_in[modest] += asked(quotas, modest, 1)
    assert let_in[modest] >= 45  # half of one a second, for 100 seconds
    # Alone again, the whole is his.
    clock.advance(service.ACTIVE_SECONDS + 1)
    assert asked(quotas, greedy, 10) == 4


def test_a_body_counts_by_its_bytes(quotas: Quotas, ids: SeededIds, clock: ManualClock) -> None:
    a, b = somebody(ids), somebody(ids)
    assert asked(quotas, a, 3, size=1_800) == 2
    assert asked(quotas, b, 1, size=1_800) == 1
    with pytest.raises(LimitReached, match="At most 3600 bytes of one network in an hour") as told:
        quotas.request(a, 100)
    assert told.value.retry_after_seconds == 100
    clock.advance(100)
    quotas.request(a, 100)


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ([], 0),
        ([(b"content-length", b"17")], 17),
        ([(b"content-length", b"-17")], CHUNKED_BYTES),
        ([(b"content-length", "²".encode())], CHUNKED_BYTES),
        ([(b"transfer-encoding", b"chunked")], CHUNKED_BYTES),
    ],
)
def test_the_size_of_a_body(headers: list[tuple[bytes, bytes]], size: int) -> None:
    assert body_bytes_of(headers) == size


def test_sockets_are_let_in_up_to_the_limit(quotas: Quotas, ids: SeededIds, clock: ManualClock) -> None:
    a, b = ids.uuid(), ids.uuid()
    quotas.hello(a)
    quotas.present(a, online=True)
    quotas.hello(a)
    # The second has not said that it is there; its place is held all the same.
    with pytest.raises(LimitReached, match="At most 2 sockets of one network; 2 are open"):
        quotas.hello(a)
    quotas.hello(b)
    clock.advance(service.HELLO_SECONDS_MAX)
    # It never came.
    quotas.hello(a)
    quotas.present(a, online=True)
    with pytest.raises(LimitReached):
        quotas.hello(a)
    quotas.present(a, online=False)
    quotas.hello(a)


def test_a_socket_of_a_network_without_bytes_is_slow(
    quotas: Quotas, ids: SeededIds, clock: ManualClock
) -> None:
    a, b = ids.uuid(), ids.uuid()
    assert quotas.frame(a, 3_600) == 0
    assert quotas.frame(a, 2) == 2
    assert quotas.frame(b, 3_600) == 0
    assert quotas.frame(a, 1_000_000) == service.WAIT_SECONDS_MAX
    clock.advance(1_000_010)
    assert quotas.frame(a, 1) == 0


async def test_a_tier_is_assigned_by_an_operator_and_known_to_every_node(
    database: Database, quotas: Quotas, ids: SeededIds, clock: ManualClock
) -> None:
    scope = await make_network(database, ids, clock)
    elsewhere = Quotas(database, clock, ids, default=Tier.FREE, quotas=TIERS)
    assert asked(quotas, scope, 10) == 4
    operator = OperatorScope(ids.uuid(), "ada")
    await quotas.assign(operator, scope.network_id, Tier.PRO, "they pay for it")
    async with database.transaction(scope) as tx:
        told = await tx.fetch("SELECT kind, actor_id, detail FROM tenant.audit_events ORDER BY kind")
    assert [tuple(row) for row in told] == [
        ("opening.network", operator.operator_id, '{"reason":"they pay for it"}'),
        ("tier.assigned", operator.operator_id, '{"tier":"pro"}'),
    ]
    assert (quotas.devices_max(scope.network_id), elsewhere.devices_max(scope.network_id)) == (9, 2)
    await elsewhere.refresh()
    assert elsewhere.devices_max(scope.network_id) == 9
    # What was used before stays used.
    assert asked(quotas, scope, 200) == 99 - 4
    seen = {limit.name: (limit.limit, limit.used) for limit in quotas.limits(scope, devices=1).items}
    assert seen == {"devices": (9, 1), "sockets": (9, 0), "requests": (99, 99), "bytes": (99_999, 0)}
    with pytest.raises(NotFound):
        await quotas.assign(operator, ids.uuid(), Tier.PRO, "nobody is there")
    with pytest.raises(InvalidInput):
        await quotas.assign(operator, scope.network_id, Tier.FREE, "x")
    assert quotas.devices_max(scope.network_id) == 9


def test_only_networks_that_use_nothing_are_forgotten(
    database: Database, ids: SeededIds, clock: ManualClock
) -> None:
    quotas = Quotas(database, clock, ids, default=Tier.FREE, quotas=TIERS, networks_max=2)
    a = somebody(ids)
    assert asked(quotas, a, 9) == 4
    for _ in range(50):
        quotas.request(somebody(ids))
    assert asked(quotas, a, 1) == 0
    clock.advance(3_600)
    quotas.request(somebody(ids))
    assert len(quotas._known) == 1


def test_the_watch_is_not_limited(quotas: Quotas, ids: SeededIds) -> None:
    assert asked(quotas, Network(SENTINEL_NETWORKS[0], ids.uuid()), 50) == 50
