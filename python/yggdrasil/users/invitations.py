"""Invitations: their text, what a device signs to accept one, the mail. Pure.

The text is `ygi_` + base64url(network id 16 ‖ invitation id 16 ‖ secret 32). It is mailed and shown nowhere
else. The network is read from it before anything is looked up; the digest of the secret and the digest of
the address are compared under it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import Role
from yggdrasil.mimir.sealing import blind_index
from yggdrasil.ports import Mail

PREFIX: Final = "ygi_"
SECRET_BYTES: Final = 32
ACCEPT_LABEL: Final = b"yggdrasil.v1 accept\0"
NAME_CHARS_MAX: Final = 40
_RAW_BYTES: Final = 16 + 16 + SECRET_BYTES
TEXT_CHARS: Final = len(PREFIX) + (_RAW_BYTES * 4 + 2) // 3
_NAME_MARKS: Final = " -'&_"

_TEXT: Final = """You are invited to a network of Yggdrasil, as {role}. Who invites you calls it:

    {name}

To accept, sign in to Yggdrasil with this address and give this invitation (yggdrasil accept):

    {text}

It is valid until {until} (UTC), once, and for this address only.
The name is the word of whoever invites you; nobody has checked it.
If you expect no invitation, do nothing: nobody learns whether you read this.
"""


@dataclass(frozen=True, slots=True)
class Invitation:
    """The parts of an invitation's text."""

    network_id: UUID
    invitation_id: UUID
    secret: bytes = field(repr=False)

    def text(self) -> str:
        """The form that is mailed."""
        raw = self.network_id.bytes + self.invitation_id.bytes + self.secret
        return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def digest(self) -> bytes:
        """What is stored: 32 bytes, bound to network and invitation."""
        message = b"yggdrasil invitation\0" + self.network_id.bytes + self.invitation_id.bytes + self.secret
        return hashlib.sha256(message).digest()


def parse(text: str) -> Invitation | None:
    """The parts, or None if the text has not the one form an invitation has."""
    if len(text) != TEXT_CHARS or not text.startswith(PREFIX):
        return None
    body = text[len(PREFIX) :]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != _RAW_BYTES:
        return None
    said = Invitation(UUID(bytes=raw[:16]), UUID(bytes=raw[16:32]), raw[32:])
    return said if said.text() == text else None


def address_key(key: bytes, network_id: UUID, address: str) -> bytes:
    """32 bytes that stand for an address (normal form) in one network's invitations: no two networks'
    share them.
    """
    return blind_index(key, f"invitation {network_id.hex}", address)


def same(left: bytes, right: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(left, right)


def accept_message(text: str, at_seconds: int) -> bytes:
    """The bytes a device signs to accept."""
    return ACCEPT_LABEL + hashlib.sha256(text.encode()).digest() + at_seconds.to_bytes(8)


def check_network_name(text: str) -> str:
    """What an invited person will call the network. Letters, digits, spaces and few marks, so that no mail
    program makes a link of a stranger's words. InvalidInput names the rule.
    """
    name = unicodedata.normalize("NFC", text).strip()
    plain = all(unicodedata.category(mark)[0] in "LMN" or mark in _NAME_MARKS for mark in name)
    if not 1 <= len(name) <= NAME_CHARS_MAX or not plain:
        raise InvalidInput(
            f"name must be 1 to {NAME_CHARS_MAX} letters, digits, spaces, or - ' & _", field="name"
        )
    return name


def invitation_mail(address: str, invitation: Invitation, name: str, role: Role, until: datetime) -> Mail:
    """The mail with an invitation: one text for addresses with and without an account."""
    text = _TEXT.format(
        role=role.value, name=name, text=invitation.text(), until=until.strftime("%Y-%m-%d %H:%M")
    )
    return Mail(address, "An invitation to a network of Yggdrasil", text)
