"""The composition root: what exists in a server, made in order and handed on. No rules live here."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from yggdrasil.adapters.chosen import gateway_of, mailer_of
from yggdrasil.admin.operators import Operators
from yggdrasil.admin.trail import Trail
from yggdrasil.audit.heads_file import HEADS_FILE
from yggdrasil.audit.service import Audit
from yggdrasil.bifrost.hub import Hello, Hub, Member
from yggdrasil.config import Settings, load_keys
from yggdrasil.db.bootstrap import Databases, bootstrap
from yggdrasil.devices.service import Devices
from yggdrasil.errors import ConfigurationError, YggdrasilError
from yggdrasil.kernel import Clock, IdSource, Market, Network, SystemClock, SystemIds
from yggdrasil.keys import Keys
from yggdrasil.marketplace.reconciler import Reconciler
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.marketplace.tokenizers import load_tokenizers
from yggdrasil.marketplace.upstream_settings import KeyedUpstream, load_upstreams
from yggdrasil.mimir.service import Mimir
from yggdrasil.nornen.service import Nornen
from yggdrasil.observe import OFFERS_ONLINE, REQUESTS_WAITING, SOCKETS, WAITING_SECONDS
from yggdrasil.payments.service import Payments
from yggdrasil.payments.topups import TopupReconciler
from yggdrasil.ports import Mailer
from yggdrasil.quotas.service import Quotas
from yggdrasil.quotas.tiers import Tier
from yggdrasil.sentinel.sentinel import Sentinel
from yggdrasil.users.gate import Revocation
from yggdrasil.users.service import Users
from yggdrasil.visibility.service import Visibility

READY_SECONDS_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class Node:
    """This server: the node keeps its id over restarts; a boot is one run of it."""

    node_id: UUID
    boot_id: UUID


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a running server is made of."""

    settings: Settings
    clock: Clock
    ids: IdSource
    databases: Databases
    mailer: Mailer
    users: Users
    devices: Devices
    payments: Payments
    topup_reconciler: TopupReconciler
    marketplace: Marketplace
    nornen: Nornen
    reconciler: Reconciler
    operators: Operators
    quotas: Quotas
    sentinel: Sentinel
    visibility: Visibility
    hub: Hub
    audit: Audit

    async def readiness(self) -> dict[str, bool]:
        """Which parts answer within two seconds. Anybody may ask, so the asking leaves no audit row."""

        async def answers(transaction: AbstractAsyncContextManager[Any]) -> bool:
            try:
                async with asyncio.timeout(READY_SECONDS_MAX), transaction as tx:
                    return bool(await tx.fetchval("SELECT 1") == 1)
            except (TimeoutError, YggdrasilError):
                return False

        database, vault = await asyncio.gather(
            answers(self.databases.main.transaction(Market())), answers(self.databases.mimir.transaction())
        )
        return {"database": database, "vault": vault}


@contextlib.asynccontextmanager
async def build(
    settings: Settings, *, clock: Clock | None = None, ids: IdSource | None = None
) -> AsyncIterator[Services]:
    """Start what a server needs, in order; stop it in reverse. Errors: ConfigurationError, Unavailable."""
    clock = clock or SystemClock()
    ids = ids or SystemIds()
    keys = load_keys(settings)
    upstreams = load_upstreams(settings.upstreams_file) if settings.upstreams_file is not None else []
    if settings.tokenizers_dir is not None:
        load_tokenizers(settings.tokenizers_dir)
    databases = await bootstrap(settings, keys, clock, ids)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(databases.close)
        node = Node(stack.enter_context(_node_id(settings.data_dir, ids)), ids.uuid())
        services = assemble(settings, keys, databases, node, clock, ids, upstreams)
        yield await stack.enter_async_context(running(services))


@contextlib.asynccontextmanager
async def running(services: Services) -> AsyncIterator[Services]:
    """Start the services over their open databases, in order; stop them in reverse."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(services.audit.close)
        stack.push_async_callback(services.users.close)
        await services.users.start()
        await services.quotas.refresh()
        await services.devices.start()
        stack.push_async_callback(services.devices.stop)
        # Before the first request: what an earlier boot left open is ended, and this one is known to live.
        await services.reconciler.start()
        stack.push_async_callback(services.reconciler.stop)
        await services.marketplace.start()
        stack.push_async_callback(services.marketplace.stop)
        yield services


def assemble(
    settings: Settings,
    keys: Keys,
    databases: Databases,
    node: Node,
    clock: Clock,
    ids: IdSource,
    upstreams: Sequence[KeyedUpstream] = (),
) -> Services:
    """Everything of a server, made and joined but not started. Errors: ConfigurationError."""
    database = databases.main
    mailer = mailer_of(settings, clock, ids)
    gateway = gateway_of(settings, databases.main, clock)
    heads = settings.audit_heads_file or settings.data_dir / HEADS_FILE
    audit = Audit(database, clock, ids, keys.audit_signing, heads)
    users = Users(database, Mimir(databases.mimir, keys, clock, ids), mailer, clock, ids, keys)
    payments = Payments(database, gateway, clock, ids, node)

    quotas = Quotas(database, clock, ids, default=Tier(settings.tier_default))

    async def member(hello: Hello) -> Member:
        admitted = await devices.member_for_hello(hello)
        if not hub.online(admitted.network_id, admitted.device):
            # One that comes again takes the place it has.
            quotas.hello(admitted.network_id)
        return Member(
            network_id=admitted.network_id,
            user_id=admitted.user_id,
            device=admitted.device,
            device_id=admitted.device_id,
            session_id=admitted.session_id,
            key_id=admitted.key_id,
        )

    # Devices and the relay know each other, so the one made first asks for the other by name.
    devices = Devices(
        database,
        clock,
        ids,
        authenticate=users.authenticate,
        online=lambda network_id, device: hub.online(network_id, device),  # noqa: PLW0108
        on_removed=lambda network_id, device: removed(network_id, device),  # noqa: PLW0108
        end_sessions=users.end_device,
        devices_max=quotas.devices_max,
    )
    hub = Hub(authenticate=member, directory=devices.directory, clock=clock, ids=ids)
    marketplace = Marketplace(
        database,
        hub=hub,
        payments=payments,
        devices=devices,
        clock=clock,
        ids=ids,
        keys=keys,
        node=node,
        upstreams=upstreams,
        settings=MarketSettings(queue_seconds=settings.queue_seconds, queue_max=settings.queue_max),
    )
    reconciler = Reconciler(
        database, payments=payments, clock=clock, node=node, settings=marketplace.settings
    )

    def removed(network_id: UUID, device: UUID) -> None:
        hub.revoke(network_id=network_id, device=device)
        marketplace.device_removed(network_id, device)

    def revoked(revocation: Revocation) -> None:
        if not revocation.keeps_sockets:
            hub.revoke(
                network_id=revocation.network_id,
                user_id=revocation.user_id,
                session_id=revocation.session_id,
                key_id=revocation.key_id,
            )

    def present(member: Member, online: bool) -> None:
        devices.presence(member, online)
        quotas.present(member.network_id, online)
        SOCKETS.inc(1 if online else -1)

    async def close_network(scope: Network) -> None:
        # Work before money: what ends between the two looks has been paid when the second one comes.
        await marketplace.require_idle(scope)
        await payments.close(scope)

    def here() -> dict[str, Any]:
        last = reconciler.last_round
        return {
            "node_id": node.node_id,
            "boot_id": node.boot_id,
            "sockets": hub.counts()[0],
            "offers_online": marketplace.routing.online_count(),
            "requests_running": marketplace.running,
            "requests_waiting": len(marketplace.queue),
            "longest_wait_seconds": round(marketplace.queue.oldest_seconds(), 3),
            "reconciled_at": None if last is None else last[0],
            "reconciled_last": None if last is None else last[1],
        }

    users.on_revoked.append(revoked)
    hub.on_unknown.append(audit.unknown_device)
    users.close_network = close_network
    users.members.on_changed.append(devices.member_changed)
    users.members.withdraw = payments.withdraw
    hub.on_presence.append(present)
    hub.meter = quotas.frame
    OFFERS_ONLINE.set_function(marketplace.routing.online_count)
    REQUESTS_WAITING.set_function(lambda: len(marketplace.queue))
    WAITING_SECONDS.set_function(marketplace.queue.oldest_seconds)
    operators = Operators(
        database,
        clock,
        ids,
        here=here,
        trial_balance=payments.trial_balance,
        trail=Trail(database, audit.signing),
    )
    return Services(
        settings=settings,
        clock=clock,
        ids=ids,
        databases=databases,
        mailer=mailer,
        users=users,
        devices=devices,
        payments=payments,
        topup_reconciler=TopupReconciler(database, gateway, clock),
        marketplace=marketplace,
        nornen=Nornen(database, marketplace, clock, ids),
        reconciler=reconciler,
        operators=operators,
        quotas=quotas,
        sentinel=Sentinel(
            users,
            clock,
            ids,
            node_id=node.node_id,
            probes_per_minute=settings.isolation_probes_per_minute,
        ),
        visibility=Visibility(
            database, ids, users=users, devices=devices, marketplace=marketplace, operators=operators
        ),
        hub=hub,
        audit=audit,
    )


@contextlib.contextmanager
def _node_id(data_dir: Path, ids: IdSource) -> Iterator[UUID]:
    """The node's id, made once and held by one process: the reconciler takes an older boot of it for dead."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    with (data_dir / "node_id").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"data_dir: another server runs in {data_dir}: stop it, or choose another", field="data_dir"
            ) from None
        file.seek(0)
        written = file.read().strip()
        try:
            node_id = UUID(written) if written else ids.uuid()
        except ValueError:
            raise ConfigurationError(
                f"data_dir: {data_dir / 'node_id'} holds no UUID: restore it, or remove it to be a new node",
                field="data_dir",
            ) from None
        if not written:
            file.write(f"{node_id}\n")
            file.flush()
        yield node_id
