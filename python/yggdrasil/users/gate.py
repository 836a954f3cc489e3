"""Who may pass, decided in memory: verified tokens, looked-up API keys, and what has been ended. No I/O.

An ended thing is remembered until every token that could still name it has expired.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import Clock, Network
from yggdrasil.users.keys import UsersKeys
from yggdrasil.users.tokens import LIFETIME_SECONDS_MAX, Access, read_access

_Value = TypeVar("_Value")

CACHE_ENTRIES_MAX: Final = 20_000
ENDED_SECONDS: Final = LIFETIME_SECONDS_MAX + 60
"""Longer than any access token lives, and than a key lookup that was under way can take."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What ended: a session, a device's tokens, an API key, a membership as it was (`network_id`), or, with
    the user alone, everything of the user. `keeps_sockets`: its tokens alone; they carry a role, sockets do
    not.
    """

    user_id: UUID
    session_id: UUID | None = None
    device_id: UUID | None = None
    key_id: UUID | None = None
    network_id: UUID | None = None
    keeps_sockets: bool = False


class Gate:
    """Caches of what was verified, always read against the list of what has ended."""

    def __init__(self, keys: UsersKeys, clock: Clock, key_cache_seconds: float) -> None:
        self._keys = keys
        self._clock = clock
        self._key_cache_seconds = key_cache_seconds
        self._tokens: OrderedDict[bytes, tuple[Access, Network]] = OrderedDict()
        self._api_keys: OrderedDict[bytes, tuple[Network, float, datetime | None]] = OrderedDict()
        self.keys_seen = 0
        """Counts rotations and changes of members: a lookup that one overtook is not kept."""
        self._ended: dict[UUID, float] = {}
        self._epochs: dict[UUID, tuple[int, float]] = {}
        self._members: dict[tuple[UUID, UUID], tuple[int, float]] = {}
        """The least epoch of a membership, by network and user."""

    def pass_token(self, token: str) -> Network:
        """The scope of an access token, or Unauthenticated, whatever the cause. No database."""
        digest = hashlib.sha256(token.encode()).digest()
        found = self._tokens.get(digest)
        if found is None:
            access = read_access(self._keys, token, self._clock.now())
            if access is None:
                raise Unauthenticated
            scope = Network(
                access.network_id,
                access.user_id,
                access.role,
                device_id=access.device_id,
                session_id=access.session_id,
            )
            found = (access, scope)
            _put(self._tokens, digest, found)
        access, scope = found
        if self._clock.now().timestamp() >= access.expires_at_seconds:
            self._tokens.pop(digest, None)
            raise Unauthenticated
        floor = self._epochs.get(access.user_id)
        if access.session_id in self._ended or (floor is not None and access.epoch < floor[0]):
            raise Unauthenticated
        if self._members and self.is_outdated(scope, access.member_epoch):
            raise Unauthenticated
        return scope

    def is_outdated(self, scope: Network, member_epoch: int) -> bool:
        """Whether the membership was changed or ended since it had this epoch."""
        floor = self._members.get((scope.network_id, scope.user_id))
        return floor is not None and member_epoch < floor[0]

    def pass_key(self, text: str) -> Network | None:
        """The scope of an API key looked up a moment ago, None to look it up. Unauthenticated if it has
        ended.
        """
        found = self._api_keys.get(hashlib.sha256(text.encode()).digest())
        if found is None or self._clock.monotonic() >= found[1]:
            return None
        if found[2] is not None and self._clock.now() >= found[2]:
            return None
        self._refuse_ended_key(found[0])
        return found[0]

    def keep_key(self, text: str, scope: Network, until: datetime | None, seen: int) -> None:
        """Keep a looked-up key for a moment, at most `until`; unless it ended while it was being looked up,
        or any was rotated since `keys_seen` was `seen`."""
        self._refuse_ended_key(scope)
        if seen != self.keys_seen:
            return
        moment = self._clock.monotonic() + self._key_cache_seconds
        _put(self._api_keys, hashlib.sha256(text.encode()).digest(), (scope, moment, until))

    def forget_key(self, key_id: UUID) -> None:
        """Every text of this key is looked up anew."""
        self._forget_keys(lambda scope: scope.key_id == key_id)

    def end(self, revocation: Revocation, epoch: int | None = None) -> None:
        """From now on refuse what the revocation names. `epoch`: the user's tokens below it, and all keys;
        for a membership, its tokens below it, while its keys are looked up anew."""
        until = self._clock.monotonic() + ENDED_SECONDS
        if revocation.network_id is not None:
            member = revocation.network_id, revocation.user_id
            self._members[member] = (max(epoch or 0, self._members.get(member, (0, 0.0))[0]), until)
            self._forget_keys(lambda scope: (scope.network_id, scope.user_id) == member)
            return
        for ended in (revocation.session_id, revocation.key_id):
            if ended is not None:
                self._ended[ended] = until
        if epoch is not None:
            known = self._epochs.get(revocation.user_id, (0, 0.0))[0]
            self._epochs[revocation.user_id] = (max(epoch, known), until)

    def prune(self) -> None:
        """Forget what ended so long ago that no token can name it, and what has expired."""
        moment, now = self._clock.monotonic(), self._clock.now().timestamp()
        self._ended = {ended: until for ended, until in self._ended.items() if until > moment}
        self._epochs = {user: entry for user, entry in self._epochs.items() if entry[1] > moment}
        self._members = {member: entry for member, entry in self._members.items() if entry[1] > moment}
        for digest in [d for d, (access, _) in self._tokens.items() if access.expires_at_seconds <= now]:
            del self._tokens[digest]
        for digest in [d for d, (_, until, _) in self._api_keys.items() if until <= moment]:
            del self._api_keys[digest]

    def _forget_keys(self, which: Callable[[Network], bool]) -> None:
        self.keys_seen += 1
        for digest in [d for d, (scope, _, _) in self._api_keys.items() if which(scope)]:
            del self._api_keys[digest]

    def _refuse_ended_key(self, scope: Network) -> None:
        if scope.key_id in self._ended or scope.user_id in self._epochs:
            raise Unauthenticated


def _put(cache: OrderedDict[bytes, _Value], digest: bytes, value: _Value) -> None:
    cache[digest] = value
    while len(cache) > CACHE_ENTRIES_MAX:
        cache.popitem(last=False)
