"""Sealing of stored results: AES-256-GCM under a key of the network. No I/O; the nonce is an argument."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from yggdrasil.errors import ConfigurationError

NONCE_BYTES: Final = 12
_LABEL: Final = b"yggdrasil.v1 result\0"


class ResultSeal:
    """Seals a result to (network, transaction, user): moved to another row it does not open."""

    def __init__(self, key: bytes) -> None:
        if len(key) < 32:
            raise ConfigurationError("the result key must have at least 32 bytes")
        self._key = key
        self._cipher_of = lru_cache(maxsize=1_024)(self._derive)

    def seal(
        self, network_id: UUID, user_id: UUID, transaction_id: UUID, nonce: bytes, plain: bytes
    ) -> bytes:
        context = network_id.bytes + user_id.bytes + transaction_id.bytes
        return self._cipher_of(network_id).encrypt(nonce, plain, context)

    def open(
        self, network_id: UUID, user_id: UUID, transaction_id: UUID, nonce: bytes, sealed: bytes
    ) -> bytes | None:
        """The result, or None if it was not sealed to this place or not by this key."""
        context = network_id.bytes + user_id.bytes + transaction_id.bytes
        try:
            return self._cipher_of(network_id).decrypt(nonce, sealed, context)
        except InvalidTag:
            return None

    def _derive(self, network_id: UUID) -> AESGCM:
        return AESGCM(
            HKDF(algorithm=SHA256(), length=32, salt=None, info=_LABEL + network_id.bytes).derive(self._key)
        )
