"""Access tokens (EdDSA JWT) and refresh tokens. Pure: keys and `now` are arguments.

An access token lives at most 10 minutes and speaks for one network. Its header must be exactly `alg`, `typ`
and `kid` with the values we write, so that no other algorithm, embedded key or extension is ever looked at.

A refresh token is `ygr_` + base64url(user 16 ‖ session 16 ‖ counter 4 ‖ HMAC 32): the successor is a
function of session and counter, so a device whose answer was lost gets the same bytes again, and nothing
that signs anybody in is stored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

import jwt
import msgspec

from yggdrasil.kernel import Role
from yggdrasil.users.keys import TokenSecret, UsersKeys

ISSUER: Final = "yggdrasil"
AUDIENCE: Final = "yggdrasil"
TYPE: Final = "at+jwt"
ALGORITHM: Final = "EdDSA"
LIFETIME_SECONDS_MAX: Final = 600
ACCESS_CHARS_MAX: Final = 1024
REFRESH_PREFIX: Final = "ygr_"
COUNTER_MAX: Final = 2**31 - 1
_REFRESH_RAW_BYTES: Final = 16 + 16 + 4 + 32
REFRESH_CHARS: Final = len(REFRESH_PREFIX) + (_REFRESH_RAW_BYTES * 4 + 2) // 3


@dataclass(frozen=True, slots=True)
class Access:
    """What an access token says."""

    user_id: UUID
    network_id: UUID
    role: Role
    session_id: UUID
    epoch: int
    device_id: UUID | None
    issued_at_seconds: int
    expires_at_seconds: int
    member_epoch: int = 0
    """Of the membership, as `epoch` is of the account."""


class _Claims(msgspec.Struct, forbid_unknown_fields=True):
    iss: str
    aud: str
    iat: int
    exp: int
    sub: UUID
    net: UUID
    role: Role
    sid: UUID
    ep: int
    mep: int = 0
    dev: UUID | None = None


def issue_access(secret: TokenSecret, access: Access) -> str:
    """The JWT. The same arguments give the same bytes (Ed25519 is deterministic)."""
    if not 0 < access.expires_at_seconds - access.issued_at_seconds <= LIFETIME_SECONDS_MAX:
        raise ValueError(f"an access token lives 1 to {LIFETIME_SECONDS_MAX} seconds")
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": access.issued_at_seconds,
        "exp": access.expires_at_seconds,
        "sub": str(access.user_id),
        "net": str(access.network_id),
        "role": access.role.value,
        "sid": str(access.session_id),
        "ep": access.epoch,
    }
    if access.member_epoch:
        claims["mep"] = access.member_epoch
    if access.device_id is not None:
        claims["dev"] = str(access.device_id)
    return jwt.encode(
        claims, secret.signing, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": secret.key_id}
    )


def read_access(keys: UsersKeys, token: str, now: datetime) -> Access | None:
    """What the token says, or None if anything at all is wrong with it."""
    if len(token) > ACCESS_CHARS_MAX:
        return None
    secret = _secret_named(keys, token.partition(".")[0])
    if secret is None:
        return None
    try:
        decoded = jwt.decode(
            token,
            secret.public,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            audience=AUDIENCE,
            # The times are checked below, by our clock.
            options={
                "require": ["iss", "aud", "iat", "exp", "sub"],
                "verify_exp": False,
                "verify_iat": False,
            },
        )
        claims = msgspec.convert(decoded, _Claims)
    except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError):
        return None
    if not claims.iat < claims.exp <= claims.iat + LIFETIME_SECONDS_MAX or now.timestamp() >= claims.exp:
        return None
    return Access(
        claims.sub,
        claims.net,
        claims.role,
        claims.sid,
        claims.ep,
        claims.dev,
        claims.iat,
        claims.exp,
        claims.mep,
    )


def _secret_named(keys: UsersKeys, header_segment: str) -> TokenSecret | None:
    """The generation the header names, if the header is one that we write."""
    try:
        padded = header_segment + "=" * (-len(header_segment) % 4)
        pairs = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True), object_pairs_hook=list)
        header = {str(name): value for name, value in pairs}
    except (binascii.Error, ValueError, TypeError, RecursionError):
        return None
    if len(header) != len(pairs):  # a name twice: two readers could see two headers
        return None
    for secret in keys.generations:
        if header == {"alg": ALGORITHM, "typ": TYPE, "kid": secret.key_id}:
            return secret
    return None


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a refresh token says: whose session, and the how-manieth token of it."""

    user_id: UUID
    session_id: UUID
    counter: int

    def text(self, secret: TokenSecret) -> str:
        """The token; a function of the three."""
        body = self.user_id.bytes + self.session_id.bytes + self.counter.to_bytes(4)
        mac = hmac.new(secret.refresh, b"yggdrasil refresh\0" + body, hashlib.sha256).digest()
        return REFRESH_PREFIX + base64.urlsafe_b64encode(body + mac).rstrip(b"=").decode()


def read_refresh(keys: UsersKeys, token: str) -> Refresh | None:
    """What a refresh token of ours says, or None."""
    if len(token) != REFRESH_CHARS or not token.startswith(REFRESH_PREFIX):
        return None
    text = token[len(REFRESH_PREFIX) :]
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != _REFRESH_RAW_BYTES:
        return None
    said = Refresh(UUID(bytes=raw[:16]), UUID(bytes=raw[16:32]), int.from_bytes(raw[32:36]))
    for secret in keys.generations:
        if hmac.compare_digest(said.text(secret).encode(), token.encode()):
            return said
    return None


class Use(Enum):
    """What presenting a refresh token means."""

    ADVANCE = "advance"
    RETRY = "retry"
    THEFT = "theft"


def judge(presented: int, current: int) -> Use:
    """The newest token moves on; the one before it is an honest retry; an older one is in the wrong hands.

    A counter above the current one is a token of ours that the database forgot (it was restored from a
    backup): it moves on.
    """
    if presented >= current:
        return Use.ADVANCE
    return Use.RETRY if presented == current - 1 else Use.THEFT
