"""Pure parts: the shapes of a device, its rules, and what its key signs. No I/O."""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from yggdrasil.errors import InvalidInput
from yggdrasil.wire.proof import encode_bytes

DEVICE_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
NAME_LENGTH_MAX: Final = 100
DOCUMENT_BYTES_MAX: Final = 16_384
DEVICES_PER_NETWORK_MAX: Final = 100

REGISTRATION_LABEL: Final = b"yggdrasil.v1 device\0"
GROUP_LABEL: Final = b"yggdrasil.v1 device group\0"

WORLDS: Final = {"midgard": "Midgard", "asgard": "Asgard", "alfheim": "Alfheim", "jotnar": "Jötnar"}
"""Stored name → proper name: phones, servers, PCs, and the small things (Jötnar)."""


class Device(msgspec.Struct, frozen=True):
    """A device as its network sees it."""

    device_id: str
    id: UUID
    user_id: UUID
    name: str
    world: str
    capabilities: dict[str, Any]
    hardware: dict[str, Any]
    device_key: str
    online: bool
    registered_at: datetime
    last_seen_at: datetime | None


class StoredDevice(msgspec.Struct, frozen=True):
    """A device as the database holds it; `world` is the stored name."""

    network_id: UUID
    id: UUID
    device_id: str
    user_id: UUID
    name: str
    world: str
    capabilities: dict[str, Any]
    hardware: dict[str, Any]
    device_key: bytes
    registered_at: datetime
    last_seen_at: datetime | None

    def shown(self, *, online: bool) -> Device:
        return Device(
            device_id=self.device_id,
            id=self.id,
            user_id=self.user_id,
            name=self.name,
            world=WORLDS[self.world],
            capabilities=self.capabilities,
            hardware=self.hardware,
            device_key=encode_bytes(self.device_key),
            online=online,
            registered_at=self.registered_at,
            last_seen_at=self.last_seen_at,
        )


def world_from(text: str) -> str:
    """The stored name of a world. Case does not matter, and Jötnar may be written with an o."""
    stored = text.strip().casefold().replace("ö", "o")
    if stored not in WORLDS:
        raise InvalidInput("world: must be one of Midgard, Asgard, Alfheim, Jötnar", field="world")
    return stored


def device_id_from(text: str) -> str:
    if not DEVICE_ID_PATTERN.match(text):
        raise InvalidInput("device_id: must be 1 to 64 characters of A-Z a-z 0-9 . _ -", field="device_id")
    return text


def name_from(text: str) -> str:
    if not 1 <= len(text) <= NAME_LENGTH_MAX or not text.isprintable():
        raise InvalidInput(f"name: must be 1 to {NAME_LENGTH_MAX} printable characters", field="name")
    return text


def document_from(value: dict[str, Any], *, field: str) -> str:
    """`value` as JSON text of at most 16 KiB that PostgreSQL can hold (no NUL inside strings)."""
    try:
        text = msgspec.json.encode(value).decode()
    except (OverflowError, ValueError, TypeError):
        raise InvalidInput(f"{field}: numbers must fit 64 bits", field=field) from None
    if len(text) > DOCUMENT_BYTES_MAX // 2:
        # jsonb prints a space after each separator: half of the column's limit always fits.
        raise InvalidInput(f"{field}: must be at most {DOCUMENT_BYTES_MAX // 2} bytes of JSON", field=field)
    if "\\u0000" in text:
        raise InvalidInput(f"{field}: text must not contain the NUL character", field=field)
    return text


def registration_message(network_id: UUID, device_id: str) -> bytes:
    """What the device key signs to be registered: (label, network, device id)."""
    return REGISTRATION_LABEL + network_id.bytes + device_id.encode()


def group_of(network_id: UUID, device_key: bytes) -> bytes:
    """16 bytes that stand for a device key in a network, however often it is registered there. The key cannot
    be told from them, nor whether another network knows it."""
    return sha256(GROUP_LABEL + network_id.bytes + device_key).digest()[:16]


def signature_holds(device_key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(device_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
