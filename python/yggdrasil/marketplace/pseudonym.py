"""What an offer is called by those who look at it, and a conversation by us. No I/O.

One AES block under a key of the viewer's network, derived by HKDF-SHA256 (RFC 5869) from the pseudonym key:
we can turn
it back, two viewers cannot tell that they see the same offer, and a made-up name turns into an id that no
offer has.
ECB of a single block with a random input (122 random bits of a UUID) is a pseudorandom permutation, which
is all a name needs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from yggdrasil.errors import ConfigurationError

PREFIX: Final = "offer_"
_PATTERN: Final = re.compile(r"offer_[0-9a-f]{32}\Z")
_LABEL: Final = b"yggdrasil.v1 offer pseudonym\0"
_CONVERSATION_LABEL: Final = b"yggdrasil.v1 conversation\0"


class Pseudonyms:
    """Names of offers, per viewer network. `key`: at least 32 secret bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ConfigurationError("the pseudonym key must have at least 32 bytes")
        self._key = key
        self._conversation_key = _derived(key, _CONVERSATION_LABEL)
        self._cipher_of = lru_cache(maxsize=4_096)(self._derive)
        # A block of ECB depends on no other: one encryptor serves all names of a viewer.
        self._encryptor_of = lru_cache(maxsize=4_096)(lambda viewer: self._cipher_of(viewer).encryptor())

    def name(self, viewer: UUID, offer: UUID) -> str:
        """What `viewer` (a network) sees for `offer`."""
        return PREFIX + self._encryptor_of(viewer).update(offer.bytes).hex()

    def offer(self, viewer: UUID, name: str) -> UUID | None:
        """The id behind a name, or None if it has not even the shape of one. The id may be of no offer at
        all."""
        if not _PATTERN.match(name):
            return None
        decryptor = self._cipher_of(viewer).decryptor()
        return UUID(bytes=decryptor.update(bytes.fromhex(name[len(PREFIX) :])) + decryptor.finalize())

    def conversation(self, network: UUID, user: UUID, parts: Iterable[str]) -> bytes:
        """16 bytes that stand for one person's conversation; without the key nobody can try out its name."""
        digest = blake2b(network.bytes + user.bytes, digest_size=16, key=self._conversation_key)
        for part in parts:
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(4, "big") + raw)
        return digest.digest()

    def _derive(self, viewer: UUID) -> Cipher[ECB]:
        key = _derived(self._key, _LABEL + viewer.bytes)
        return Cipher(AES(key), ECB())  # noqa: S305  # one block; see the module's text


def _derived(key: bytes, label: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=label).derive(key)
