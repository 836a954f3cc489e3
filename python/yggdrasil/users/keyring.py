"""API keys: made, limited, looked up, rotated and revoked; and when each was used last."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from yggdrasil.audit import Event, EventKind, actor_of, record
from yggdrasil.db import Database
from yggdrasil.errors import Conflict, InvalidInput, LimitReached, NotFound, Unauthenticated, Unavailable
from yggdrasil.kernel import Clock, Identity, IdSource, Network, System
from yggdrasil.users import apikeys, store, store_keys
from yggdrasil.users.gate import CACHE_ENTRIES_MAX, Gate, Revocation
from yggdrasil.users.settings import UsersSettings
from yggdrasil.users.signin import check_name
from yggdrasil.users.store_keys import KeyTerms

LIST_LIMIT_MAX: Final = 100
LIMIT_MICROCENTS_MAX: Final = 2**53
MODELS_MAX: Final = 64
MODEL_CHARS_MAX: Final = 128
OVERLAP_SECONDS_MAX: Final = 7 * 86_400
USE_NOTED_SECONDS: Final = 60.0
"""The last use is written this often at most, for all keys at once."""
_LOOK_UPS_MAX: Final = 3
_log = structlog.get_logger("yggdrasil.users")


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """An API key without its secret: its terms, and what it holds and spent in all and this month (UTC)."""

    key_id: UUID
    name: str
    created_at: datetime
    spend_limit_microcents: int | None = None
    monthly_limit_microcents: int | None = None
    models: list[str] | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    rotated_at: datetime | None = None
    previous_until: datetime | None = None
    spent_microcents: int = 0
    held_microcents: int = 0
    month_spent_microcents: int = 0
    month_held_microcents: int = 0


class KeyRing:
    """The keys of all users. A key's terms never change; who needs others makes another key."""

    def __init__(
        self, database: Database, clock: Clock, ids: IdSource, gate: Gate, settings: UsersSettings
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._gate = gate
        self._settings = settings
        self._used: dict[tuple[UUID, UUID], datetime] = {}
        self._asked: dict[tuple[str, int], asyncio.Future[Network]] = {}
        """Look-ups on their way, by the key's text and the rotations seen before."""
        self._note_at = clock.monotonic() + USE_NOTED_SECONDS

    async def create(self, scope: Network, name: str, terms: KeyTerms) -> tuple[KeyInfo, str]:
        """A new key of the caller; the text is answered here and nowhere again."""
        name = check_name(name, field="name")
        now = self._clock.now()
        _check(terms, now)
        key = self._new_text(scope.network_id, self._ids.uuid())
        async with self._database.transaction(scope) as tx:
            if await store_keys.count_keys(tx, scope.network_id, scope.user_id) >= self._settings.keys_max:
                raise LimitReached(f"at most {self._settings.keys_max} working API keys; revoke one first")
            await store_keys.insert_key(
                tx, scope.network_id, key.key_id, scope.user_id, name, key.digest(), now, terms
            )
            await record(tx, self._event(scope, EventKind.KEY_CREATED, key.key_id, now))
            row = await store_keys.select_shown_key(
                tx, scope.network_id, scope.user_id, _month(now), key.key_id
            )
        return _info(row, now), key.text()

    async def page(
        self, scope: Network, *, limit: int = 20, cursor: str | None = None
    ) -> tuple[list[KeyInfo], str | None]:
        """The caller's keys that are not revoked, oldest first, and the cursor of the next page."""
        if not 1 <= limit <= LIST_LIMIT_MAX:
            raise InvalidInput(f"limit must be 1 to {LIST_LIMIT_MAX}", field="limit")
        try:
            after = None if cursor is None else UUID(hex=cursor)
        except ValueError:
            raise InvalidInput("cursor must be the `next` of an earlier answer", field="cursor") from None
        now = self._clock.now()
        async with self._database.transaction(scope) as tx:
            rows = await store_keys.select_keys(
                tx, scope.network_id, scope.user_id, _month(now), after, limit + 1
            )
        items = [_info(row, now) for row in rows[:limit]]
        return items, items[-1].key_id.hex if len(rows) > limit else None

    async def rotate(self, scope: Network, key_id: UUID, overlap_seconds: int) -> tuple[KeyInfo, str]:
        """Another text for a key of the caller, answered here and nowhere again; the present text works on
        until the overlap ends, one from an earlier rotation ends now. Other nodes follow within
        `key_cache_seconds`.

        Errors: NotFound (absent, foreign, revoked), Conflict (expired), InvalidInput.
        """
        if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
            raise InvalidInput(
                f"overlap_seconds: must be 0 to {OVERLAP_SECONDS_MAX}", field="overlap_seconds"
            )
        now = self._clock.now()
        key = self._new_text(scope.network_id, key_id)
        until = now + timedelta(seconds=overlap_seconds) if overlap_seconds else None
        async with self._database.transaction(scope) as tx:
            rotated = await store_keys.rotate_key(tx, scope.network_id, key_id, key.digest(), now, until)
            if rotated:
                await record(tx, self._event(scope, EventKind.KEY_ROTATED, key_id, now))
            row = await store_keys.select_shown_key(tx, scope.network_id, scope.user_id, _month(now), key_id)
        if row is None:
            raise NotFound
        if not rotated:
            raise Conflict("the key has expired: make another one")
        self._gate.forget_key(key_id)
        return _info(row, now), key.text()

    async def revoke(self, scope: Network, key_id: UUID) -> Revocation:
        """End a key of the caller. NotFound for absent, foreign and revoked ones."""
        now = self._clock.now()
        async with self._database.transaction(scope) as tx:
            if not await store_keys.revoke_key(tx, scope.network_id, key_id, now):
                raise NotFound
            ended = store.Ended(scope.user_id, None, key_id, None)
            await store.insert_revocation(tx, self._ids.uuid(), ended, now)
            await record(tx, self._event(scope, EventKind.KEY_REVOKED, key_id, now))
        return Revocation(scope.user_id, key_id=key_id)

    async def authenticate(self, text: str) -> Network:
        """The scope of a key's text; asks the database at most every few seconds. Unauthenticated for what
        is no key, revoked, expired, or rotated away."""
        scope = self._gate.pass_key(text) or await self._look_up_once(text)
        if scope.key_id is not None and len(self._used) < CACHE_ENTRIES_MAX:
            self._used[scope.network_id, scope.key_id] = self._clock.now()
        return scope

    async def _look_up_once(self, text: str) -> Network:
        """Requests that come together with one key, as an application's do, ask together."""
        name = text, self._gate.keys_seen
        asked = self._asked.get(name)
        if asked is None:
            asked = asyncio.ensure_future(self._look_up(text))
            if len(self._asked) < CACHE_ENTRIES_MAX:
                self._asked[name] = asked
                asked.add_done_callback(lambda _: self._asked.pop(name, None))
        # Who leaves does not take the answer with him.
        return await asyncio.shield(asked)

    async def _look_up(self, text: str) -> Network:
        key = apikeys.parse(text)
        if key is None:
            raise Unauthenticated
        for _ in range(_LOOK_UPS_MAX):
            scope = await self._looked_up(text, key)
            if scope is not None:
                return scope
        raise Unavailable("the key's rights are changing; try again", retry_after_seconds=1)

    async def _looked_up(self, text: str, key: apikeys.ApiKey) -> Network | None:
        """The scope; None if the membership changed while it was being read."""
        seen = self._gate.keys_seen
        async with self._database.transaction(Identity(key.network_id)) as tx:
            found = await store_keys.select_key(tx, key.network_id, key.key_id, key.digest())
        if found is None or (found.until is not None and self._clock.now() >= found.until):
            raise Unauthenticated
        async with self._database.transaction(Identity(key.network_id, found.user_id)) as tx:
            role = await store.select_role(tx, key.network_id, found.user_id)
        if role is None:
            raise Unauthenticated
        scope = Network(key.network_id, found.user_id, role[0], key_id=key.key_id, key_models=found.models)
        if self._gate.is_outdated(scope, role[1]):
            return None
        self._gate.keep_key(text, scope, found.until, seen)
        return scope

    async def note_uses(self, *, due: bool = False) -> None:
        """Write when keys were used last, if a minute has passed since, or `due`."""
        if not (due or self._clock.monotonic() >= self._note_at):
            return
        # Also if there is nothing: a turn that began with a use would tell one network of others' uses.
        self._note_at = self._clock.monotonic() + USE_NOTED_SECONDS
        if not self._used:
            return
        uses, self._used = self._used, {}
        try:
            async with self._database.transaction(System("key-use")) as tx:
                await store_keys.note_uses(tx, uses)
        except Unavailable:
            self._used = uses | self._used
            raise

    def _event(self, scope: Network, kind: EventKind, key_id: UUID, at: datetime) -> Event:
        return Event(
            network_id=scope.network_id,
            event_id=self._ids.uuid(),
            at=at,
            kind=kind,
            actor=actor_of(scope),
            subject="api_key",
            subject_id=key_id,
            user_id=scope.user_id,
        )

    def _new_text(self, network_id: UUID, key_id: UUID) -> apikeys.ApiKey:
        return apikeys.ApiKey(network_id, key_id, self._ids.secret(apikeys.SECRET_BYTES))


def _month(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m")


def _info(row: dict[str, Any] | None, now: datetime) -> KeyInfo:
    if row is None:
        raise NotFound
    info = KeyInfo(**row)
    over = info.previous_until is not None and info.previous_until <= now
    return KeyInfo(**(row | {"previous_until": None})) if over else info


def _check(terms: KeyTerms, now: datetime) -> None:
    """InvalidInput names the term and its rule."""
    for name in ("spend_limit_microcents", "monthly_limit_microcents"):
        limit = getattr(terms, name)
        if limit is not None and not 0 <= limit <= LIMIT_MICROCENTS_MAX:
            raise InvalidInput(f"{name}: must be 0 to {LIMIT_MICROCENTS_MAX}", field=name)
    if terms.expires_at is not None and terms.expires_at <= now:
        raise InvalidInput("expires_at: must lie in the future", field="expires_at")
    models = terms.models
    if models is None:
        return
    if not 1 <= len(models) <= MODELS_MAX or len(set(models)) != len(models):
        raise InvalidInput(f"models: must be 1 to {MODELS_MAX} different models", field="models")
    if not all(1 <= len(model) <= MODEL_CHARS_MAX and model.isprintable() for model in models):
        raise InvalidInput(
            f"models: each must be 1 to {MODEL_CHARS_MAX} printable characters", field="models"
        )
