"""Devices with a made-up relay and token check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support import ManualClock, SeededIds
from yggdrasil.db import Database
from yggdrasil.devices.model import Device, registration_message
from yggdrasil.devices.service import Devices
from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import Network
from yggdrasil.wire.proof import encode_bytes


@dataclass
class House:
    """Devices, and what stands around them."""

    devices: Devices
    tokens: dict[str, Network] = field(default_factory=dict)
    online: set[tuple[UUID, UUID]] = field(default_factory=set)
    removed: list[tuple[UUID, UUID]] = field(default_factory=list)

    async def register(
        self, scope: Network, key: Ed25519PrivateKey, device_id: str = "phone", **changes: object
    ) -> Device:
        values: dict[str, object] = {
            "device_id": device_id,
            "name": "My phone",
            "world": "Midgard",
            "capabilities": {"models": ["m"]},
            "hardware": {"memory_gib": 8},
            "device_key": encode_bytes(key.public_key().public_bytes_raw()),
            "proof": encode_bytes(key.sign(registration_message(scope.network_id, device_id))),
        }
        return await self.devices.register(scope, **(values | changes))  # type: ignore[arg-type]


MakeHouse = Callable[[int], House]


@pytest.fixture
def make_house(database: Database, clock: ManualClock, ids: SeededIds) -> MakeHouse:
    def make(devices_max: int) -> House:
        made: House

        async def authenticate(header: str | None) -> Network:
            scope = made.tokens.get((header or "").removeprefix("Bearer "))
            if scope is None:
                raise Unauthenticated
            return scope

        check: Callable[[str | None], Awaitable[Network]] = authenticate
        made = House(
            Devices(
                database,
                clock,
                ids,
                authenticate=check,
                online=lambda network, device: (network, device) in made.online,
                on_removed=lambda network, device: made.removed.append((network, device)),
                devices_max=lambda _: devices_max,
            )
        )
        return made

    return make


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return make_house(100)


@pytest.fixture
def key(ids: SeededIds) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(ids.secret(32))
