"""An operator's credential: `ygo_` + base64url(operator id 16 ‖ secret 32). Pure.

256 random bits need no slow hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

PREFIX: Final = "ygo_"
SECRET_BYTES: Final = 32
_RAW_BYTES: Final = 16 + SECRET_BYTES
TEXT_CHARS: Final = len(PREFIX) + _RAW_BYTES * 4 // 3


@dataclass(frozen=True, slots=True)
class OperatorScope:
    """An operator who proved to be one; made by `Operators.find` alone."""

    operator_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Credential:
    """The parts of a credential's text."""

    operator_id: UUID
    secret: bytes = field(repr=False)

    def text(self) -> str:
        """The form that is shown once."""
        return PREFIX + base64.urlsafe_b64encode(self.operator_id.bytes + self.secret).decode()

    def digest(self) -> bytes:
        """What is stored: 32 bytes, bound to the operator's id."""
        return hashlib.sha256(b"yggdrasil operator\0" + self.operator_id.bytes + self.secret).digest()

    def matches(self, digest: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.digest(), digest)


def parse(text: str) -> Credential | None:
    """The parts, or None if the text has not the one form a credential has."""
    if len(text) != TEXT_CHARS or not text.startswith(PREFIX):
        return None
    try:
        raw = base64.b64decode(text[len(PREFIX) :], altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    made = Credential(UUID(bytes=raw[:16]), raw[16:]) if len(raw) == _RAW_BYTES else None
    return made if made is not None and made.text() == text else None
