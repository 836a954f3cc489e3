"""The offers in memory: which exist, who is online, how good they are, and which one is picked.

Scores are the engines'; here is only the way from offers and events to them and back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from yggdrasil.eikthyrnir import Quality
from yggdrasil.errors import InvalidInput, NoProvider
from yggdrasil.kernel import Clock, IdSource, Network
from yggdrasil.marketplace.pseudonym import Pseudonyms
from yggdrasil.marketplace.requests import ComputeRequest, Offer
from yggdrasil.scoring import Router

KEYS_MAX: Final = 1_024

_UNMET: Final[dict[str, tuple[str | None, str]]] = {
    "model": ("model", "model: no offer has it"),
    "owner": ("scope", "scope: only your own network offers this model; ask for scope network"),
    "only": ("only", "only: none of the offers listed fits"),
    "ignore": ("ignore", "ignore: it leaves no offer"),
    "tried": (None, "every fitting offer was tried"),
    "context": ("max_tokens", "context: no offer takes a prompt and an answer that long"),
    "max_price": ("max_price_cents", "max_price: every fitting offer is dearer"),
    "online": (None, "no fitting offer is online"),
    "breaker": (None, "the fitting offers failed too often of late"),
    "capacity": (None, "the fitting offers are busy"),
}
"""Gate → (field of the wish, what is unmet), in the order in which the router asks."""

_PARTS: Final = ("price", "quality", "latency", "availability", "fairness")


class Seen(Protocol):
    """What is learnt from one attempt."""

    @property
    def end(self) -> str: ...
    @property
    def delivered(self) -> bool: ...
    @property
    def error_code(self) -> str | None: ...
    @property
    def first_chunk_ms(self) -> int | None: ...
    @property
    def tokens_per_second(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An ended attempt, read back when the server starts."""

    offer: UUID
    end: str
    delivered: bool
    exaggerated: bool
    error_code: str | None
    first_chunk_ms: int | None
    tokens_per_second: int | None
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class Choice:
    """The offer picked; `card` is the requester's decision card as JSON, with pseudonyms in place of ids."""

    offer: Offer
    card: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How an offer stands: shares are 0 to 1."""

    quality: float
    availability: float
    latency_ms: float
    tokens_per_second: float
    weight: float
    """How many recent observations of its quality this rests on."""


class Routing:
    """All offers of this server's market. Every method is synchronous and in memory."""

    def __init__(self, clock: Clock, ids: IdSource, pseudonyms: Pseudonyms) -> None:
        self._clock = clock
        self._ids = ids
        self._pseudonyms = pseudonyms
        self._router = Router()
        self._quality = Quality()
        self._offers: dict[UUID, Offer] = {}
        self._of_network: dict[UUID, set[UUID]] = defaultdict(set)
        self._of_device: dict[tuple[UUID, UUID], set[UUID]] = defaultdict(set)
        self._online: set[tuple[UUID, UUID]] = set()

    # ---- offers
    # ---------------------------------------------------------------------------------------------

    def put(self, offer: Offer, *, online: bool) -> None:
        """Add an offer, or change its facts. A paused one is known and never picked."""
        new = offer.id not in self._offers
        self._offers[offer.id] = offer
        self._of_network[offer.network_id].add(offer.id)
        self._of_device[offer.network_id, offer.device].add(offer.id)
        if online:
            self._online.add((offer.network_id, offer.device))
        if offer.status != "active":
            self._router.remove(offer.id.bytes)
            return
        self._router.upsert(
            key=offer.id.bytes,
            owner=offer.network_id.bytes,
            group=offer.device.bytes,
            model=f"{offer.kind}/{offer.model}",
            price_microcents=offer.price_microcents,
            context_tokens=offer.context_tokens_max,
            capacity=offer.capacity_jobs,
            visibility="market" if offer.audience == "market" else "own",
        )
        self._router.set_online(offer.id.bytes, self.online(offer))
        if new:
            self._quality.observe(
                offer.id.bytes, "latency_ms", float(offer.measured_latency_ms), at_ms=self._now_ms()
            )
        self._estimate(offer.id)

    def remove(self, offer_id: UUID) -> None:
        offer = self._offers.pop(offer_id, None)
        if offer is None:
            return
        self._router.remove(offer_id.bytes)
        self._quality.remove(offer_id.bytes)
        for index, key in (
            (self._of_network, offer.network_id),
            (self._of_device, (offer.network_id, offer.device)),
        ):
            index[key].discard(offer_id)  # type: ignore[index]
            if not index[key]:  # type: ignore[index]
                del index[key]  # type: ignore[arg-type]

    def remove_device(self, network_id: UUID, device: UUID) -> None:
        """Everything a device offers ends."""
        for offer_id in list(self._of_device.get((network_id, device), ())):
            self.remove(offer_id)
        self._online.discard((network_id, device))

    def presence(self, network_id: UUID, device: UUID, online: bool) -> None:
        if online:
            self._online.add((network_id, device))
        else:
            self._online.discard((network_id, device))
        for offer_id in self._of_device.get((network_id, device), ()):
            self._router.set_online(offer_id.bytes, online)

    def online(self, offer: Offer) -> bool:
        return (offer.network_id, offer.device) in self._online

    def online_count(self) -> int:
        """Offers whose device is connected, for metrics."""
        return sum(len(self._of_device.get(key, ())) for key in self._online)

    def offer(self, offer_id: UUID) -> Offer | None:
        return self._offers.get(offer_id)

    def visible(self, scope: Network) -> Iterator[Offer]:
        """Offers the viewer may know of."""
        return (offer for offer in self._offers.values() if self.may_see(scope, offer))

    def may_see(self, scope: Network, offer: Offer) -> bool:
        """At home, what is for him; of other networks, what is on the market and could serve him now."""
        if offer.network_id == scope.network_id:
            return offer.audience != "own" or offer.user_id == scope.user_id
        return offer.audience == "market" and offer.status == "active" and self.online(offer)

    # ---- picking
    # --------------------------------------------------------------------------------------------

    def pick(
        self,
        scope: Network,
        request: ComputeRequest,
        *,
        prompt_tokens: int,
        output_tokens: int,
        tried: Iterable[UUID] = (),
    ) -> Choice:
        """The best offer for the request; takes one of its slots. Raises NoProvider naming the unmet wish."""
        wishes = request.wishes
        only = self._named(scope, wishes.only, "only")
        ignore = self._named(scope, wishes.ignore, "ignore")
        if wishes.scope != "market":
            only = self._at_home(scope, request, only if wishes.only else None)
        # What the requester asked for must fit; our own default for it may be shortened to what fits.
        needed = prompt_tokens + (request.output_tokens_max or (1 if request.kind == "chat" else 0))
        decision = self._router.pick(
            model=f"{request.kind}/{request.model}",
            network=scope.network_id.bytes,
            scope="market" if wishes.scope == "market" else "own",
            context_tokens=needed,
            work_tokens=prompt_tokens + output_tokens,
            price_microcents_max=wishes.max_price_microcents if wishes.scope == "market" else None,
            only=only,
            ignore=ignore,
            tried=[offer.bytes for offer in tried],
            now_ms=self._now_ms(),
            seed=int.from_bytes(self._ids.secret(8), "big"),
        )
        if decision.key is None:
            raise self._no_provider(decision.gates, listed=bool(wishes.only))
        offer = self._offers[UUID(bytes=decision.key)]
        return Choice(offer, self._card(scope, msgspec.json.decode(decision.card())))

    def release(self, offer_id: UUID) -> None:
        """Give the slot back."""
        self._router.release(offer_id.bytes)

    def observe(self, offer: Offer, seen: Seen, *, exaggerates: bool, at: datetime | None = None) -> None:
        """Learn from an attempt. What the requester broke off tells nothing about the provider."""
        if offer.id not in self._offers or seen.end == "cancelled":
            return
        past = at is not None
        at_ms = self._now_ms() if at is None else _ms(at)
        key = offer.id.bytes
        if seen.end == "busy":
            self._quality.observe(key, "success", 0.0, at_ms=at_ms, weight=0.2)
        else:
            ok = seen.end == "completed"
            self._quality.observe(key, "success", 1.0 if ok else 0.0, at_ms=at_ms)
            if ok:
                good = 0.0 if exaggerates else 1.0 if seen.delivered else 0.2
                self._quality.observe(key, "quality", good, at_ms=at_ms)
            elif seen.error_code == "bad_answer":
                self._quality.observe(key, "quality", 0.0, at_ms=at_ms)
            if seen.first_chunk_ms is not None:
                self._quality.observe(key, "latency_ms", float(seen.first_chunk_ms), at_ms=at_ms)
            if seen.tokens_per_second is not None:
                self._quality.observe(key, "throughput", float(seen.tokens_per_second), at_ms=at_ms)
            if not past:
                self._router.report(offer.device.bytes, ok, at_ms)
        self._estimate(offer.id)

    def recall(self, attempts: Sequence[PastAttempt]) -> None:
        """What earlier boots have learnt."""
        for attempt in attempts:
            offer = self._offers.get(attempt.offer)
            if offer is not None:
                self.observe(offer, attempt, exaggerates=attempt.exaggerated, at=attempt.ended_at)

    def standing(self, offer: Offer) -> Standing:
        at_ms, key = self._now_ms(), offer.id.bytes
        quality = self._quality.estimate(key, "quality", at_ms=at_ms)
        return Standing(
            quality=quality.lower_bound,
            availability=self._quality.estimate(key, "success", at_ms=at_ms).mean,
            latency_ms=self._quality.estimate(key, "latency_ms", at_ms=at_ms).mean,
            tokens_per_second=self._quality.estimate(key, "throughput", at_ms=at_ms).mean,
            weight=quality.weight,
        )

    def tick(self) -> None:
        """A new epoch of the scores."""
        self._router.tick(self._now_ms())

    def set_references(self, model: str, kind: str, price_microcents: int, latency_ms: int) -> None:
        self._router.set_references(
            f"{kind}/{model}",
            price_reference=float(price_microcents),
            latency_reference_ms=float(latency_ms),
        )

    # ---- inside
    # ---------------------------------------------------------------------------------------------

    def _named(self, scope: Network, names: Sequence[str], field: str) -> list[bytes]:
        keys = []
        for name in names:
            offer = self._pseudonyms.offer(scope.network_id, name)
            if offer is None:
                raise InvalidInput(f"{field}: must list offers such as offer_<32 hex digits>", field=field)
            keys.append(offer.bytes)
        return keys

    def _at_home(self, scope: Network, request: ComputeRequest, only: list[bytes] | None) -> list[bytes]:
        """The offers of the own network that this request may use, as the router's `only`."""
        fitting = [
            offer
            for offer_id in self._of_network.get(scope.network_id, ())
            if (offer := self._offers[offer_id]).kind == request.kind and offer.model == request.model
        ]
        if not fitting:
            raise NoProvider("model: no offer of your network has it", field="model")
        mine = request.wishes.scope == "own"
        keys = [
            offer.id.bytes
            for offer in fitting
            if offer.user_id == scope.user_id or (not mine and offer.audience != "own")
        ]
        if not keys:
            raise NoProvider(
                f"scope: no offer with scope {request.wishes.scope} has this model", field="scope"
            )
        if only is not None:
            keys = [key for key in keys if key in set(only)]
            if not keys:
                raise NoProvider(_UNMET["only"][1], field="only")
        return keys[:KEYS_MAX]

    def _no_provider(self, gates: dict[str, int], *, listed: bool) -> NoProvider:
        """The gate that the best of them failed; no counts, which would tell about others."""
        failed = [name for name, count in gates.items() if count]
        name = failed[-1] if failed else "only" if listed else "model"
        field, text = _UNMET.get(name, (None, "no offer fits"))
        return NoProvider(text, field=field, retry_after_seconds=1 if field is None else None)

    def _card(self, scope: Network, card: dict[str, Any]) -> str:
        def name(key: str) -> str:
            return self._pseudonyms.name(scope.network_id, UUID(hex=key))

        candidates = []
        for candidate in card["candidates"]:
            shown: dict[str, Any] = {
                "offer": name(candidate["key"]),
                "score": round(candidate["score"], 3),
                "band": candidate["band"],
                "chosen": candidate["chosen"],
            }
            if candidate["chosen"]:
                shown["parts"] = {part: round(candidate[part], 2) for part in _PARTS}
            candidates.append(shown)
        return msgspec.json.encode(
            {
                "chosen": name(card["chosen"]),
                "explored": card["explored"],
                "propensity": card["propensity"],
                "feasible": card["feasible"],
                "gates_failed": [gate for gate, count in card["gates"].items() if count and gate != "model"],
                "candidates": candidates,
            }
        ).decode()

    def _estimate(self, offer_id: UUID) -> None:
        standing = self.standing(self._offers[offer_id])
        self._router.set_estimates(
            offer_id.bytes,
            quality=standing.quality,
            latency_ms=standing.latency_ms,
            availability=standing.availability,
        )

    def _now_ms(self) -> int:
        return _ms(self._clock.now())


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
