"""The secrets of sign-in, from the server's key rings. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from yggdrasil.keys import Key, Keys


@dataclass(frozen=True, slots=True)
class TokenSecret:
    """One generation of token secrets."""

    key_id: str
    signing: Ed25519PrivateKey = field(repr=False)
    public: Ed25519PublicKey = field(repr=False)
    refresh: bytes = field(repr=False)

    @classmethod
    def of(cls, key: Key) -> TokenSecret:
        signing = Ed25519PrivateKey.from_private_bytes(key.secret)
        return cls(key.key_id, signing, signing.public_key(), key.derive("users refresh token"))


class UsersKeys:
    """Token secrets, the first of which is current while all are accepted; the code peppers; the key of the
    counters.

    Rotation: put a new token key first; drop the old one when no refresh token of its time is wanted any
    more (its holders sign in again). The counters' key comes from the blind index's ring with another
    label, so that the digests in the two databases cannot be matched; a new one forgets the counters and
    the known devices, nothing else.
    """

    def __init__(self, keys: Keys) -> None:
        self.generations = tuple(TokenSecret.of(key) for key in keys.token_signing.keys)
        self.peppers = tuple(key.derive("users sign-in code") for key in keys.code_pepper.keys)
        self.counters = keys.blind_index.current.derive("users address counters")
        self.invitations = tuple(key.derive("users invitations") for key in keys.blind_index.keys)
        """Of addresses in invitations: the first makes digests, all are tried."""

    @property
    def current(self) -> TokenSecret:
        return self.generations[0]

    def __repr__(self) -> str:
        return f"UsersKeys({[generation.key_id for generation in self.generations]})"
