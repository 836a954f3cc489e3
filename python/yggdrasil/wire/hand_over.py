"""Network ID hand-over: what a device signs, and the parcel that only the asking device can open.

The parcel is RFC 9180 (HPKE) in base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. Its
`info` names the ask and both keys of the device, so that a parcel of another ask, or for another device, does
not open. See docs/protocol/hand-over.md. Pure, but for the ephemeral key that the library makes.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from yggdrasil.errors import InvalidInput

ASK_LABEL: Final = b"yggdrasil.v1 hand-over ask\0"
TAKE_LABEL: Final = b"yggdrasil.v1 hand-over take\0"
APPROVE_LABEL: Final = b"yggdrasil.v1 hand-over approve\0"
CHECK_LABEL: Final = b"yggdrasil.v1 hand-over check\0"
PARCEL_LABEL: Final = b"yggdrasil.v1 hand-over parcel\0"
SEALING_KEY_BYTES: Final = 32
CHECK_DIGITS: Final = 6
PARCEL_BYTES_MAX: Final = 4096
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_PROBE: Final = X25519PrivateKey.from_private_bytes(bytes(range(32)))
"""No secret: it is multiplied with a key to see whether that key is one."""


class Parcel(msgspec.Struct, frozen=True):
    """What a device needs to act in the network. `ends_at`: then one asks again, whatever was refreshed."""

    hand_over_id: UUID
    network_id: UUID
    user_id: UUID
    session_id: UUID
    role: str
    access_token: str
    expires_in_seconds: int
    refresh_token: str
    refresh_expires_in_seconds: int
    ends_at: datetime

    def __repr__(self) -> str:
        return f"Parcel(hand_over_id={self.hand_over_id})"


def ask_message(device_key: bytes, sealing_key: bytes, at_seconds: int, email: str, name: str) -> bytes:
    """The bytes a device signs to ask: they bind the sealing key to the device key."""
    said = hashlib.sha256(email.encode()).digest() + hashlib.sha256(name.encode()).digest()
    return ASK_LABEL + device_key + sealing_key + at_seconds.to_bytes(8) + said


def take_message(flow: UUID, code: str | None) -> bytes:
    """The bytes a device signs to take the parcel, with the mailed code or without one."""
    return TAKE_LABEL + flow.bytes + (code or "").encode()


def approve_message(flow: UUID, check: str, network_id: UUID, at_seconds: int) -> bytes:
    """The bytes a device at home signs to say yes."""
    return APPROVE_LABEL + flow.bytes + check.encode() + network_id.bytes + at_seconds.to_bytes(8)


def check_number(flow: UUID, device_key: bytes, sealing_key: bytes) -> str:
    """6 digits that the asking device shows, and a person types at home: they say which ask is meant."""
    digest = hashlib.sha256(CHECK_LABEL + flow.bytes + device_key + sealing_key).digest()
    return f"{int.from_bytes(digest[:8]) % 10**CHECK_DIGITS:0{CHECK_DIGITS}d}"


def check_sealing_key(sealing_key: bytes) -> None:
    """InvalidInput for bytes that are no X25519 key, or one of the few that share a secret with everybody."""
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(sealing_key))
    except ValueError:
        raise InvalidInput(
            "sealing_key: must be an X25519 public key that is not of low order", field="sealing_key"
        ) from None


def seal_parcel(parcel: Parcel, flow: UUID, device_key: bytes, sealing_key: bytes) -> bytes:
    """`enc` (32) ‖ ciphertext. InvalidInput for a sealing key that is none."""
    check_sealing_key(sealing_key)
    public = X25519PublicKey.from_public_bytes(sealing_key)
    return _SUITE.encrypt(msgspec.json.encode(parcel), public, info=_info(flow, device_key, sealing_key))


def open_parcel(sealed: bytes, flow: UUID, device_key: bytes, private: X25519PrivateKey) -> Parcel:
    """The parcel; InvalidInput for one that was altered, or is of another ask or for another device."""
    info = _info(flow, device_key, private.public_key().public_bytes_raw())
    try:
        if len(sealed) > PARCEL_BYTES_MAX:
            raise ValueError
        return msgspec.json.decode(_SUITE.decrypt(sealed, private, info=info), type=Parcel)
    except (InvalidTag, ValueError, msgspec.MsgspecError):
        raise InvalidInput("sealed: does not open with this device's keys", field="sealed") from None


def _info(flow: UUID, device_key: bytes, sealing_key: bytes) -> bytes:
    return PARCEL_LABEL + flow.bytes + device_key + sealing_key
