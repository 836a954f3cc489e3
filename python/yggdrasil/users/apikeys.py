"""The text of an API key: `ygg_` + base64url(network id 16 ‖ key id 16 ‖ secret 32). Pure.

The network is read from the key before anything is looked up, so the database is asked under that network's
scope only; the hash of the secret is checked under it. 256 random bits need no slow hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

PREFIX: Final = "ygg_"
SECRET_BYTES: Final = 32
_RAW_BYTES: Final = 16 + 16 + SECRET_BYTES
TEXT_CHARS: Final = len(PREFIX) + (_RAW_BYTES * 4 + 2) // 3


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The parts of a key's text."""

    network_id: UUID
    key_id: UUID
    secret: bytes = field(repr=False)

    def text(self) -> str:
        """The form that is shown once."""
        raw = self.network_id.bytes + self.key_id.bytes + self.secret
        return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def digest(self) -> bytes:
        """What is stored: 32 bytes, bound to network and key id."""
        message = b"yggdrasil api key\0" + self.network_id.bytes + self.key_id.bytes + self.secret
        return hashlib.sha256(message).digest()


def parse(text: str) -> ApiKey | None:
    """The parts, or None if the text has not the one form a key has."""
    if len(text) != TEXT_CHARS or not text.startswith(PREFIX):
        return None
    body = text[len(PREFIX) :]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != _RAW_BYTES:
        return None
    key = ApiKey(UUID(bytes=raw[:16]), UUID(bytes=raw[16:32]), raw[32:])
    return key if key.text() == text else None
