"""Which offer a conversation was last served by: its backend still has the prompt in its cache. In memory;
what is kept over a planned restart is `recalling`'s part.

The wish is weak. The router follows it only among offers whose score is in the best band or the next, and not
at all while the offer has more than its share of what was asked of its model lately: a few long conversations
must not starve the others."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

from yggdrasil.kernel import Clock, Network
from yggdrasil.marketplace.pseudonym import Pseudonyms
from yggdrasil.marketplace.requests import ComputeRequest

CONVERSATIONS_MAX: Final = 65_536
IDLE_SECONDS_MAX: Final = 1_800.0
WINDOW: Final = 64
WINDOW_MIN: Final = 16
"""Of fewer picks nobody has too large a share."""
SHARE_MAX: Final = 0.5
MODELS_MAX: Final = 4_096

Key = bytes


class Affinity:
    """Bounded: the conversation that was silent for longest is forgotten first."""

    def __init__(self, clock: Clock, pseudonyms: Pseudonyms) -> None:
        self._clock = clock
        self._pseudonyms = pseudonyms
        self._last: OrderedDict[Key, tuple[UUID, float]] = OrderedDict()
        self._picks: OrderedDict[tuple[str, str], deque[UUID]] = OrderedDict()

    def preferred(self, scope: Network, request: ComputeRequest) -> UUID | None:
        """The offer to prefer, or None."""
        key = self._key(scope, request)
        found = self._last.get(key) if key is not None else None
        if found is None:
            return None
        offer, at = found
        if self._clock.monotonic() - at > IDLE_SECONDS_MAX:
            return None
        picks = self._picks.get((request.kind, request.model), ())
        if len(picks) >= WINDOW_MIN and Counter(picks)[offer] > SHARE_MAX * len(picks):
            return None
        return offer

    def picked(self, request: ComputeRequest, offer: UUID) -> None:
        """An offer was picked, for whatever reason."""
        model = (request.kind, request.model)
        picks = self._picks.setdefault(model, deque(maxlen=WINDOW))
        picks.append(offer)
        self._picks.move_to_end(model)
        if len(self._picks) > MODELS_MAX:
            self._picks.popitem(last=False)

    def served(self, scope: Network, request: ComputeRequest, offer: UUID) -> None:
        """An offer has answered."""
        key = self._key(scope, request)
        if key is None:
            return
        self._note(key, offer, self._clock.monotonic())

    def kept(self) -> Iterator[tuple[Key, UUID, float]]:
        """(conversation, offer, seconds since) of those that still count, the longest silent first."""
        now = self._clock.monotonic()
        return (
            (key, offer, now - at) for key, (offer, at) in self._last.items() if now - at <= IDLE_SECONDS_MAX
        )

    def recall(self, kept: Iterable[tuple[Key, UUID, float]]) -> None:
        """What was `kept`, by now with more seconds since. Before any request."""
        now = self._clock.monotonic()
        for key, offer, seconds in kept:
            self._note(key, offer, now - seconds)

    def _note(self, key: Key, offer: UUID, at: float) -> None:
        self._last[key] = (offer, at)
        self._last.move_to_end(key)
        if len(self._last) > CONVERSATIONS_MAX:
            self._last.popitem(last=False)

    def _key(self, scope: Network, request: ComputeRequest) -> Key | None:
        """The conversation as it is kept: nothing the requester wrote stays here."""
        if request.conversation is None:
            return None
        parts = (request.kind, request.model, request.conversation)
        return self._pseudonyms.conversation(scope.network_id, scope.user_id, parts)
