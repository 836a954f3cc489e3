"""What a device signs to prove that it holds its key: a stolen token alone is no device.

    proof = Ed25519(device key, b"bifrost.v1 hello\\0" + nonce + sha256(token))

The nonce is the server's, 32 bytes, new for each socket, so a proof is worth nothing on another one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from yggdrasil.errors import InvalidInput
from yggdrasil.wire.limits import NONCE_BYTES

HELLO_LABEL: Final = b"bifrost.v1 hello\0"
SIGNATURE_BYTES: Final = 64


def hello_payload(nonce: bytes, token: str) -> bytes:
    """The bytes under the signature. `nonce`: 32 bytes."""
    if len(nonce) != NONCE_BYTES:
        raise InvalidInput(f"nonce: exactly {NONCE_BYTES} bytes", field="nonce")
    return HELLO_LABEL + nonce + hashlib.sha256(token.encode()).digest()


def encode_bytes(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_bytes(text: str, length: int, field: str) -> bytes:
    """`length` bytes from base64url without padding; `InvalidInput` names `field`."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{field}: base64url without padding", field=field) from None
    if len(raw) != length or encode_bytes(raw) != text:
        raise InvalidInput(f"{field}: base64url of exactly {length} bytes, without padding", field=field)
    return raw
