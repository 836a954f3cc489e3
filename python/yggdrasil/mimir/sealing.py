"""How the vault seals and finds: envelope encryption and the blind index. Pure: keys and randomness are
arguments.

Each subject has a data key of its own, wrapped by a key-encryption key (KEK) that is never in the database.
Destroying the wrapped data key makes every sealed field of the subject unreadable, in backups too.

Sealed bytes are `0x01 ‖ key tag (8) ‖ nonce (12) ‖ AES-256-GCM ciphertext and tag`. The key tag names the
KEK for a wrapped key, and is zero for fields, whose key version is a column. The additional data is the
place the bytes belong to (table|column|row|version), so that a ciphertext moved to another place does not
open.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from yggdrasil.errors import ConfigurationError, YggdrasilError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KEY_TAG_BYTES: Final = 8
PLAIN_BYTES_MAX: Final = 4096
_FORMAT: Final = b"\x01"
_NO_KEY_TAG: Final = bytes(KEY_TAG_BYTES)
_PREFIX_BYTES: Final = 1 + KEY_TAG_BYTES
OVERHEAD_BYTES: Final = _PREFIX_BYTES + NONCE_BYTES + TAG_BYTES


class BrokenSealError(YggdrasilError):
    """Sealed bytes do not open: another key, another place, or altered. Our own trouble, never the
    caller's.
    """


def place(table: str, column: str, row: object, version: int) -> bytes:
    """The additional data: where a ciphertext belongs. None of the parts may hold the separator."""
    parts = (table, column, str(row), str(version))
    if any("|" in part for part in parts):
        raise ValueError("place: a part must not hold '|'")
    return "|".join(parts).encode()


def seal(key: bytes, nonce: bytes, where: bytes, plain: bytes, key_tag: bytes = _NO_KEY_TAG) -> bytes:
    """Seal `plain` (at most 4096 bytes) for one place. `nonce` is 12 random bytes, never used twice with a
    key.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError("nonce must be 12 bytes")
    if len(plain) > PLAIN_BYTES_MAX:
        raise ValueError("plain must be at most 4096 bytes")
    prefix = _FORMAT + key_tag
    return prefix + nonce + AESGCM(key).encrypt(nonce, plain, prefix + where)


def open_sealed(key: bytes, where: bytes, sealed: bytes) -> bytes:
    """The plain bytes, or BrokenSealError, whatever the cause."""
    if len(sealed) < OVERHEAD_BYTES or sealed[:1] != _FORMAT:
        raise BrokenSealError("sealed bytes do not open")
    prefix, nonce = sealed[:_PREFIX_BYTES], sealed[_PREFIX_BYTES : _PREFIX_BYTES + NONCE_BYTES]
    try:
        return AESGCM(key).decrypt(nonce, sealed[_PREFIX_BYTES + NONCE_BYTES :], prefix + where)
    except InvalidTag:
        raise BrokenSealError("sealed bytes do not open") from None


@dataclass(frozen=True, slots=True)
class WrappingKey:
    """A key-encryption key. Its id is a digest, so that the same key has the same id on every node."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ConfigurationError("a key-encryption key must be 32 bytes")

    @property
    def tag(self) -> bytes:
        return hashlib.sha256(b"yggdrasil mimir key id\0" + self.secret).digest()[:KEY_TAG_BYTES]

    @property
    def key_id(self) -> str:
        return self.tag.hex()


class WrappingKeys:
    """The KEKs; the first wraps, all of them unwrap. Rotation: put a new one first, rewrap, drop the last."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not 1 <= len(secrets) <= 16:
            raise ConfigurationError("the vault needs 1 to 16 key-encryption keys")
        keys = [WrappingKey(secret) for secret in secrets]
        self._current = keys[0]
        self._by_tag = {key.tag: key for key in keys}

    def __repr__(self) -> str:
        return f"WrappingKeys({len(self._by_tag)} keys, current {self.key_id})"

    @property
    def key_id(self) -> str:
        """Id of the key that wraps."""
        return self._current.key_id

    def wrap(self, nonce: bytes, where: bytes, data_key: bytes) -> bytes:
        return seal(self._current.secret, nonce, where, data_key, self._current.tag)

    def unwrap(self, where: bytes, wrapped: bytes) -> bytes:
        key = self._by_tag.get(wrapped[1:_PREFIX_BYTES])
        if key is None:
            raise BrokenSealError("the key-encryption key of this subject is not among those given")
        return open_sealed(key.secret, where, wrapped)


def blind_index(key: bytes, purpose: str, value: str) -> bytes:
    """Keyed HMAC-SHA-256 of a value: equal values meet, nothing else can be told without the key.

    `purpose` keeps the indexes of two tables apart, so that two databases cannot be joined on them.
    """
    return hmac.new(key, purpose.encode() + b"\0" + value.encode(), hashlib.sha256).digest()
