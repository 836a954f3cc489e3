"""E-mailed codes and the signatures around them. Pure: randomness, keys and `now` are arguments.

A code is 8 digits. It is stored as an HMAC over the flow and the device key it was asked with, so it is
worth nothing in another flow, on another device, or to a reader of the table without the key. With 5 tries
a guess succeeds with 5·10⁻⁸.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CODE_DIGITS: Final = 8
CODE_SECRET_BYTES: Final = 16
DEVICE_KEY_BYTES: Final = 32
PROOF_BYTES: Final = 64
START_LABEL: Final = b"yggdrasil.v1 start\0"
VERIFY_LABEL: Final = b"yggdrasil.v1 verify\0"
REFRESH_LABEL: Final = b"yggdrasil.v1 refresh\0"
SWITCH_LABEL: Final = b"yggdrasil.v1 switch\0"
_CODE: Final = re.compile(rf"[0-9]{{{CODE_DIGITS}}}", re.ASCII)


def code_from(secret: bytes) -> str:
    """A code from 16 random bytes: with 128 bits the modulo's bias is below 10⁻³⁰."""
    if len(secret) != CODE_SECRET_BYTES:
        raise ValueError("secret must be 16 bytes")
    return f"{int.from_bytes(secret) % 10**CODE_DIGITS:0{CODE_DIGITS}d}"


def is_code(text: str) -> bool:
    """8 ASCII digits, nothing else (other scripts have digits too)."""
    return _CODE.fullmatch(text) is not None


def code_digest(pepper: bytes, flow: UUID, device_key: bytes, code: str) -> bytes:
    """What is stored of a code: 32 bytes, bound to flow and device key."""
    message = b"yggdrasil sign-in code\0" + flow.bytes + device_key + code.encode()
    return hmac.new(pepper, message, hashlib.sha256).digest()


def hand_over_digest(pepper: bytes, flow: UUID, device_key: bytes, sealing_key: bytes, code: str) -> bytes:
    """What is stored of a hand-over's code: 32 bytes under another label, so that neither kind of code is
    ever one of the other.
    """
    message = b"yggdrasil hand-over code\0" + flow.bytes + device_key + sealing_key + code.encode()
    return hmac.new(pepper, message, hashlib.sha256).digest()


def code_matches(pepper: bytes, flow: UUID, device_key: bytes, code: str, digest: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(code_digest(pepper, flow, device_key, code), digest)


def start_message(device_key: bytes, at_seconds: int, email: str) -> bytes:
    """The bytes a known device signs to ask for a code."""
    return START_LABEL + device_key + at_seconds.to_bytes(8) + hashlib.sha256(email.encode()).digest()


def verify_message(flow: UUID, code: str) -> bytes:
    """The bytes a device signs to prove a code."""
    return VERIFY_LABEL + flow.bytes + code.encode()


def refresh_message(refresh_token: str, at_seconds: int) -> bytes:
    """The bytes a device signs to refresh."""
    return REFRESH_LABEL + hashlib.sha256(refresh_token.encode()).digest() + at_seconds.to_bytes(8)


def switch_message(refresh_token: str, network_id: UUID, at_seconds: int) -> bytes:
    """The bytes a device signs to open a session in another network."""
    digest = hashlib.sha256(refresh_token.encode()).digest()
    return SWITCH_LABEL + digest + network_id.bytes + at_seconds.to_bytes(8)


def is_recent(at_seconds: int, now: datetime, skew_seconds_max: int) -> bool:
    return abs(now.timestamp() - at_seconds) <= skew_seconds_max


def proof_holds(device_key: bytes, proof: bytes, message: bytes) -> bool:
    """True if `proof` is the Ed25519 signature of `message` by `device_key`."""
    try:
        Ed25519PublicKey.from_public_bytes(device_key).verify(proof, message)
    except (InvalidSignature, ValueError):
        return False
    return True
