"""The use cases of devices: registering, changing, removing them, and letting them in at the socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg

from yggdrasil.audit import Event, EventKind, actor_of, record
from yggdrasil.db import Database, Tx
from yggdrasil.devices import model, store
from yggdrasil.devices.model import Device, StoredDevice
from yggdrasil.devices.paging import Page, decode_cursor, encode_cursor, limit_from
from yggdrasil.errors import (
    Conflict,
    InvalidInput,
    LimitReached,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from yggdrasil.kernel import Clock, IdSource, Network, Role
from yggdrasil.tracing import traced
from yggdrasil.users.roles import Action, require
from yggdrasil.wire.messages import DeviceInfo
from yggdrasil.wire.proof import decode_bytes, hello_payload

FLUSH_SECONDS: Final = 5.0
SEEN_SECONDS: Final = 60.0
DIRECTORY_DEVICES_MAX: Final = 1_000


class SocketHello(Protocol):
    """What a device says at the socket: the token, its id, and the proof over the server's nonce."""

    @property
    def token(self) -> str: ...
    @property
    def device_id(self) -> str: ...
    @property
    def proof(self) -> str | bytes: ...
    @property
    def nonce(self) -> bytes: ...


class SocketMember(Protocol):
    """Who holds a socket, as the relay keeps it."""

    @property
    def network_id(self) -> UUID: ...
    @property
    def user_id(self) -> UUID: ...
    @property
    def device(self) -> UUID: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """A device whose token and proof hold."""

    network_id: UUID
    user_id: UUID
    device: UUID
    device_id: str
    session_id: UUID | None
    key_id: UUID | None


class Devices:
    """`authenticate` checks an Authorization header; `online` asks the relay; `on_removed(network, device)`
    is told after a device is gone, to close its socket and end its offers;
    `end_sessions(scope, user, device_key)` before, to sign it out."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: IdSource,
        *,
        authenticate: Callable[[str | None], Awaitable[Network]],
        online: Callable[[UUID, UUID], bool],
        on_removed: Callable[[UUID, UUID], None],
        end_sessions: Callable[[Network, UUID, bytes], Awaitable[None]] | None = None,
        devices_max: Callable[[UUID], int] = lambda _: model.DEVICES_PER_NETWORK_MAX,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._authenticate = authenticate
        self._online = online
        self._on_removed = on_removed
        self._end_sessions = end_sessions
        self._devices_max = devices_max
        self._present: dict[tuple[UUID, UUID], UUID] = {}
        self._seen: dict[tuple[UUID, UUID], tuple[UUID, datetime]] = {}
        self._task: asyncio.Task[None] | None = None

    # ---- what REST asks ----------------------------------------------------------------------------------

    async def register(
        self,
        scope: Network,
        *,
        device_id: str,
        name: str,
        world: str,
        capabilities: dict[str, Any],
        hardware: dict[str, Any],
        device_key: str,
        proof: str,
    ) -> Device:
        """Add a device of the caller. `device_key`: Ed25519 public key, 32 bytes; `proof`: its signature over
        `registration_message(network, device_id)`. Raises InvalidInput, Conflict, LimitReached, Forbidden."""
        require(scope, Action.OWN_DEVICES)
        public = decode_bytes(device_key, 32, "device_key")
        signature = decode_bytes(proof, 64, "proof")
        stored = StoredDevice(
            network_id=scope.network_id,
            id=self._ids.uuid(),
            device_id=model.device_id_from(device_id),
            user_id=scope.user_id,
            name=model.name_from(name),
            world=model.world_from(world),
            capabilities=capabilities,
            hardware=hardware,
            device_key=public,
            registered_at=self._clock.now(),
            last_seen_at=None,
        )
        capabilities_text = model.document_from(capabilities, field="capabilities")
        hardware_text = model.document_from(hardware, field="hardware")
        message = model.registration_message(scope.network_id, stored.device_id)
        if not model.signature_holds(public, signature, message):
            raise InvalidInput(
                "proof: must be the device key's signature over the label, the network and the device_id",
                field="proof",
            )
        try:
            async with self._database.transaction(scope) as tx:
                await store.lock_network(tx, scope.network_id)
                if await store.find(tx, scope.network_id, stored.device_id) is not None:
                    raise Conflict("device_id: is already used in this network", field="device_id")
                have, most = await store.count(tx, scope.network_id), self._devices_max(scope.network_id)
                if have >= most:
                    raise LimitReached(
                        f"At most {most} devices of one network; it has {have}", limit=most, used=have
                    )
                await store.insert(tx, stored, capabilities=capabilities_text, hardware=hardware_text)
                await record(tx, self._event(scope, EventKind.DEVICE_REGISTERED, stored))
        except asyncpg.UniqueViolationError:
            raise Conflict("device_id: is already used in this network", field="device_id") from None
        return stored.shown(online=False)

    async def count(self, scope: Network) -> int:
        """How many devices the caller's network has."""
        async with self._database.transaction(scope) as tx:
            return await store.count(tx, scope.network_id)

    async def page(self, scope: Network, *, everyone: bool, limit: int, cursor: str | None) -> Page:
        """The caller's devices, or those of everyone in the network, ordered by their ids."""
        if everyone:
            require(scope, Action.SEE_DEVICES)
        limit_from(limit)
        after = decode_cursor(cursor, parts=1)[0] if cursor is not None else None
        async with self._database.transaction(scope) as tx:
            rows = await store.page(
                tx,
                scope.network_id,
                user_id=None if everyone else scope.user_id,
                after=after,
                limit=limit + 1,
            )
        items = [self._shown(row) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(items=items, next=encode_cursor(items[-1].device_id) if more else None)

    async def get(self, scope: Network, device_id: str) -> Device:
        return self._shown(await self.stored(scope, device_id))

    async def stored(self, scope: Network, device_id: str) -> StoredDevice:
        """The device by its assigned id, or NotFound: one answer for absent and foreign."""
        if not model.DEVICE_ID_PATTERN.match(device_id):
            raise NotFound
        async with self._database.transaction(scope) as tx:
            found = await store.find(tx, scope.network_id, device_id)
        if found is None:
            raise NotFound
        return found

    async def update(
        self,
        scope: Network,
        device_id: str,
        *,
        name: str | None,
        world: str | None,
        capabilities: dict[str, Any] | None,
        hardware: dict[str, Any] | None,
    ) -> Device:
        """Change what is given. Raises NotFound, Forbidden, InvalidInput."""
        require(scope, Action.OWN_DEVICES)
        name = model.name_from(name) if name is not None else None
        world = model.world_from(world) if world is not None else None
        capabilities_text = (
            model.document_from(capabilities, field="capabilities") if capabilities is not None else None
        )
        hardware_text = model.document_from(hardware, field="hardware") if hardware is not None else None
        async with self._database.transaction(scope) as tx:
            found = await self._changeable(tx, scope, device_id)
            changed = await store.update(
                tx,
                scope.network_id,
                found.id,
                name=name,
                world=world,
                capabilities=capabilities_text,
                hardware=hardware_text,
            )
            after = await store.find(tx, scope.network_id, device_id) if changed else None
        if after is None:
            raise NotFound
        return self._shown(after)

    async def remove(self, scope: Network, device_id: str) -> None:
        """Delete a device: it is signed out, its sockets close and its offers end. NotFound, Forbidden."""
        require(scope, Action.OWN_DEVICES)
        async with self._database.transaction(scope) as tx:
            found = await self._changeable(tx, scope, device_id)
        # First, so that a failure in between leaves a device that can be removed again.
        if self._end_sessions is not None:
            await self._end_sessions(scope, found.user_id, found.device_key)
        async with self._database.transaction(scope) as tx:
            if not await store.delete(tx, scope.network_id, found.id):
                raise NotFound
            await record(tx, self._event(scope, EventKind.DEVICE_REMOVED, found))
        self._on_removed(scope.network_id, found.id)

    async def _changeable(self, tx: Any, scope: Network, device_id: str) -> StoredDevice:
        found = (
            await store.find(tx, scope.network_id, device_id)
            if model.DEVICE_ID_PATTERN.match(device_id)
            else None
        )
        if found is None:
            raise NotFound
        if found.user_id != scope.user_id:
            require(scope, Action.OTHERS_DEVICES)
        return found

    def _event(self, scope: Network, kind: EventKind, device: StoredDevice) -> Event:
        return Event(
            network_id=scope.network_id,
            event_id=self._ids.uuid(),
            at=self._clock.now(),
            kind=kind,
            actor=actor_of(scope),
            subject="device",
            subject_id=device.id,
            user_id=device.user_id,
        )

    async def member_changed(
        self, tx: Tx, network_id: UUID, user_id: UUID, role: Role | None
    ) -> Callable[[], None] | None:
        """Whoever is no member any more has no devices there: removed in `tx`, under Identity(network, user);
        the answer, called after the commit, closes their sockets and ends their offers."""
        if role is not None:
            return None
        gone = await store.delete_of(tx, network_id, user_id)

        def told() -> None:
            for device in gone:
                self._on_removed(network_id, device)

        return told

    def online(self, network_id: UUID, device: UUID) -> bool:
        """Whether a device holds a socket now."""
        return self._online(network_id, device)

    def _shown(self, stored: StoredDevice) -> Device:
        return stored.shown(online=self._online(stored.network_id, stored.id))

    # ---- what the socket asks ----------------------------------------------------------------------------

    async def member_for_hello(self, hello: SocketHello) -> Admitted:
        """Token, device and proof, or Unauthenticated: one answer, so that nobody learns which was wrong."""
        scope = await self._authenticate(f"Bearer {hello.token}")
        require(scope, Action.OWN_DEVICES)
        try:
            stored = await self.stored(scope, hello.device_id)
            signature = (
                hello.proof if isinstance(hello.proof, bytes) else decode_bytes(hello.proof, 64, "proof")
            )
            message = hello_payload(hello.nonce, hello.token)
        except (NotFound, InvalidInput):
            raise Unauthenticated from None
        bound_elsewhere = scope.device_id is not None and scope.device_id != stored.id
        if bound_elsewhere or stored.user_id != scope.user_id:
            raise Unauthenticated
        if not model.signature_holds(stored.device_key, signature, message):
            raise Unauthenticated
        return Admitted(
            network_id=stored.network_id,
            user_id=stored.user_id,
            device=stored.id,
            device_id=stored.device_id,
            session_id=scope.session_id,
            key_id=scope.key_id,
        )

    async def directory(self, member: SocketMember) -> list[DeviceInfo]:
        """The devices of the member's own network, for `discover`."""
        scope = Network(member.network_id, member.user_id, Role.MEMBER, device_id=member.device)
        async with self._database.transaction(scope) as tx:
            rows = await store.page(
                tx, member.network_id, user_id=None, after=None, limit=DIRECTORY_DEVICES_MAX
            )
        return [
            DeviceInfo(
                device_id=row.device_id,
                name=row.name,
                kind=model.WORLDS[row.world],
                online=self._online(row.network_id, row.id),
            )
            for row in rows
        ]

    # ---- last seen ---------------------------------------------------------------------------------------

    def presence(self, member: SocketMember, online: bool) -> None:
        """The relay's presence callback."""
        key = (member.network_id, member.device)
        if online:
            self._present[key] = member.user_id
        else:
            self._present.pop(key, None)
        self._seen[key] = (member.user_id, self._clock.now())

    @traced("job last seen", alone=True)
    async def flush(self, *, present: bool = False) -> int:
        """Write what was noted; with `present`, also that those online are seen. Returns rows written."""
        if present:
            now = self._clock.now()
            for key, user_id in self._present.items():
                self._seen[key] = (user_id, now)
        seen, self._seen = self._seen, {}
        by_user: dict[tuple[UUID, UUID], list[tuple[UUID, UUID, datetime]]] = defaultdict(list)
        for (network_id, device), (user_id, at) in seen.items():
            by_user[network_id, user_id].append((network_id, device, at))
        for (network_id, user_id), rows in by_user.items():
            async with self._database.transaction(Network(network_id, user_id, Role.MEMBER)) as tx:
                await store.touch(tx, rows)
        return len(seen)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep_flushing(), name="devices: last seen")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        with contextlib.suppress(Unavailable):
            await self.flush(present=True)

    async def _keep_flushing(self) -> None:
        written_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            all_present = self._clock.monotonic() - written_at >= SEEN_SECONDS
            if all_present:
                written_at = self._clock.monotonic()
            # A database that is away costs the freshness of `last_seen_at`, nothing else.
            with contextlib.suppress(Unavailable):
                await self.flush(present=all_present)
