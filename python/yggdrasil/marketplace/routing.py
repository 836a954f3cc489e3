"""The offers in memory: which exist, who is online, how good they are, and which one is picked.

Scores are the engines'; here is only the way from offers and events to them and back.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from msgspec.json import decode as json_decode

from yggdrasil.eikthyrnir import Quality
from yggdrasil.kernel import PLATFORM_NETWORK, Clock, IdSource, Network
from yggdrasil.marketplace import hours
from yggdrasil.marketplace.affinity import Affinity
from yggdrasil.marketplace.breakdown import Work
from yggdrasil.marketplace.picking import merged, no_provider, shown_card
from yggdrasil.marketplace.pseudonym import Pseudonyms
from yggdrasil.marketplace.reach import Reach
from yggdrasil.marketplace.refusals import Refusals
from yggdrasil.marketplace.requests import ComputeRequest, Offer
from yggdrasil.marketplace.seen import Seen, Standing
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.marketplace.tolerance import Tolerance
from yggdrasil.marketplace.waiting import nobody_waits
from yggdrasil.scoring import Router, constants

GONE_MAX: Final = 10_000
"""Offers that ended and whose quality is kept: who registers a device again does not begin anew."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The offer picked; `card` is the requester's decision card, with pseudonyms in place of ids."""

    offer: Offer
    card: dict[str, Any]


class Routing:
    """All offers of this server's market. Every method is synchronous and in memory."""

    def __init__(
        self, clock: Clock, ids: IdSource, pseudonyms: Pseudonyms, settings: MarketSettings | None = None
    ) -> None:
        settings = settings or MarketSettings()
        self._clock = clock
        self._ids = ids
        self._pseudonyms = pseudonyms
        self._router = Router(
            **constants.ROUTER,
            newcomer_ppm=settings.newcomer_picks_ppm,
            breaker_tested_apart=settings.canaries_per_round > 0,
        )
        self.tolerance = Tolerance(settings.tolerance_percent)
        self._heard_ms: dict[UUID, int] = {}
        self._quality = Quality(**constants.QUALITY)
        self._offers: dict[UUID, Offer] = {}
        self._of_network: dict[UUID, set[UUID]] = defaultdict(set)
        self._of_device: dict[tuple[UUID, UUID], set[UUID]] = defaultdict(set)
        self._of_model: dict[tuple[str, str], set[UUID]] = defaultdict(set)
        self._online: set[tuple[UUID, UUID]] = set()
        self.affinity = Affinity(clock, pseudonyms)
        self.refusals = Refusals(self._refit)
        self.reach = Reach(self, pseudonyms, self._of_network, self._of_model, self._seed)
        self._with_hours: set[UUID] = set()
        self._closed: set[UUID] = set()
        self._gone: OrderedDict[UUID, bool] = OrderedDict()
        self.on_free: Callable[[tuple[UUID, UUID] | None, bool], None] = nobody_waits
        """Called when there may be room on a device (network, device), None: on any; True: for one job."""

    # ---- offers ------------------------------------------------------------

    def put(self, offer: Offer, *, online: bool) -> None:
        """Add an offer, or change its facts. One that is closed is known and never picked."""
        new = offer.id not in self._offers
        self._offers[offer.id] = offer
        self._of_network[offer.network_id].add(offer.id)
        self._of_device[offer.network_id, offer.device].add(offer.id)
        self._of_model[offer.kind, offer.model].add(offer.id)
        if online:
            self._online.add((offer.network_id, offer.device))
        self._upsert(offer)
        self._router.set_online(offer.id.bytes, self.online(offer))
        self._open(offer)
        if new:
            # What is known of it is its test, or what earlier boots have learnt: no canary at once.
            self._heard_ms[offer.id] = self._now_ms()
            known = self._gone.pop(offer.id, False)
        if new and not known:
            self._quality.observe(
                offer.id.bytes, "latency_ms", float(offer.measured_latency_ms), at_ms=self._now_ms()
            )
        self._estimate(offer.id)
        self.on_free((offer.network_id, offer.device), False)

    def _upsert(self, offer: Offer) -> None:
        slots = self.refusals.slots((offer.network_id, offer.device))
        self._router.upsert(
            key=offer.id.bytes,
            owner=offer.network_id.bytes,
            group=offer.group,
            model=f"{offer.kind}/{offer.model}",
            price_microcents=offer.price_microcents,
            context_tokens=offer.context_tokens_max,
            output_tokens=offer.output_tokens_max,
            capacity=min(offer.model_capacity_jobs or offer.capacity_jobs, offer.capacity_jobs),
            group_capacity=offer.capacity_jobs if slots is None else min(slots, offer.capacity_jobs),
            visibility="market" if offer.audience == "market" else "own",
        )

    def _refit(self, device: tuple[UUID, UUID], more: bool) -> None:
        """A device is asked for more jobs, or fewer."""
        for offer_id in self._of_device.get(device, ()):
            self._upsert(self._offers[offer_id])
        if more:
            self.on_free(device, False)

    def remove(self, offer_id: UUID) -> None:
        offer = self._offers.pop(offer_id, None)
        if offer is None:
            return
        self._router.remove(offer_id.bytes)
        self._gone[offer_id] = True
        if len(self._gone) > GONE_MAX:
            self._quality.remove(self._gone.popitem(last=False)[0].bytes)
        self._with_hours.discard(offer_id)
        self._closed.discard(offer_id)
        self._heard_ms.pop(offer_id, None)
        for index, key in (
            (self._of_network, offer.network_id),
            (self._of_device, (offer.network_id, offer.device)),
            (self._of_model, (offer.kind, offer.model)),
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
        if online:
            self.refusals.forget((network_id, device))
            self.on_free((network_id, device), False)

    def lines_of(self, device: tuple[UUID, UUID]) -> set[tuple[str, str]]:
        """(kind, model) of what a device (network, device) offers."""
        offers = (self._offers[offer_id] for offer_id in self._of_device.get(device, ()))
        return {(offer.kind, offer.model) for offer in offers}

    def online(self, offer: Offer) -> bool:
        return self.device_online(offer.network_id, offer.device)

    def device_online(self, network_id: UUID, device: UUID) -> bool:
        return (network_id, device) in self._online

    def takes_work(self, offer: Offer) -> bool:
        """Neither paused nor draining, and within its hours."""
        return offer.id in self._offers and offer.id not in self._closed

    def _open(self, offer: Offer) -> None:
        """Open or close an offer by its status and its hours."""
        if offer.hours:
            self._with_hours.add(offer.id)
        else:
            self._with_hours.discard(offer.id)
        is_open = offer.status == "active" and hours.is_open(offer.hours, offer.zone, self._clock.now())
        (self._closed.discard if is_open else self._closed.add)(offer.id)
        self._router.set_open(offer.id.bytes, is_open)

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
        return offer.audience == "market" and self.takes_work(offer) and self.online(offer)

    # ---- picking ------------------------------------------------------------

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
        # What the requester asked for must fit; our own default for it may be shortened to what fits.
        needed = prompt_tokens + (request.output_tokens_max or (1 if request.kind == "chat" else 0))
        prefer = self.affinity.preferred(scope, request)
        gates: dict[str, int] = {}
        for only in self.reach.lists(scope, request):
            decision = self._router.pick(
                model=f"{request.kind}/{request.model}",
                network=scope.network_id.bytes,
                scope="market" if wishes.scope == "market" else "own",
                context_tokens=needed,
                work_tokens=prompt_tokens + output_tokens,
                output_tokens=request.output_tokens_max,
                price_microcents_max=wishes.max_price_microcents if wishes.scope == "market" else None,
                only=only,
                ignore=self.reach.named(scope, wishes.ignore, "ignore"),
                tried=[offer.bytes for offer in tried],
                now_ms=self._now_ms(),
                seed=self._seed(),
                prefer=prefer.bytes if prefer is not None else None,
            )
            if decision.key is not None:
                offer = self._offers[UUID(bytes=decision.key)]
                self.affinity.picked(request, offer.id)
                card = shown_card(
                    partial(self._pseudonyms.name, scope.network_id), json_decode(decision.card())
                )
                if prefer is not None:
                    card["affinity"] = offer.id == prefer
                return Choice(offer, card)
            gates = merged(gates, decision.gates)
        raise no_provider(self.reach.told(scope, request, gates), wishes)

    def release(self, offer_id: UUID) -> None:
        """Give the slot back."""
        self._router.release(offer_id.bytes)
        offer = self._offers.get(offer_id)
        self.on_free(None if offer is None else (offer.network_id, offer.device), True)

    def refused(self, offer_id: UUID) -> None:
        """Give the slot back of a job that its device did not take for want of one."""
        self._router.release(offer_id.bytes)
        if (offer := self._offers.get(offer_id)) is not None:
            running = self._router.load(offer.group)
            self.refusals.refused((offer.network_id, offer.device), running, offer.capacity_jobs)

    def observe(
        self, offer: Offer, seen: Seen, *, quality: float, at: datetime | None = None, canary: bool = False
    ) -> None:
        """Learn from an attempt; `quality` counts if it was completed. What the requester broke off tells
        nothing about the provider."""
        if offer.id not in self._offers or seen.end == "cancelled":
            return
        past = at is not None
        at_ms = self._now_ms() if at is None else _ms(at)
        key = offer.id.bytes
        if not self.takes_work(offer) and (seen.end == "busy" or seen.error_code == "offline"):
            # Its owner has closed it since: what was on its way to it finds nobody, as he may.
            return
        if seen.end == "busy":
            self._quality.observe(key, "success", 0.0, at_ms=at_ms, weight=0.2)
        else:
            ok = seen.end == "completed"
            self._quality.observe(key, "success", 1.0 if ok else 0.0, at_ms=at_ms)
            if ok:
                self.refusals.served((offer.network_id, offer.device))
                self._quality.observe(key, "quality", quality, at_ms=at_ms)
            elif seen.error_code == "bad_answer":
                self._quality.observe(key, "quality", 0.0, at_ms=at_ms)
            if seen.first_chunk_ms is not None:
                self._quality.observe(key, "latency_ms", float(seen.first_chunk_ms), at_ms=at_ms)
            if seen.tokens_per_second is not None:
                self._quality.observe(key, "throughput", float(seen.tokens_per_second), at_ms=at_ms)
            self._heard_ms[offer.id] = max(at_ms, self._heard_ms.get(offer.id, at_ms))
            if not past:
                self.report(offer.group, offer.network_id, ok, at_ms, canary=canary)
        self._estimate(offer.id)

    def report(self, group: bytes | None, owner: UUID, ok: bool, at_ms: int, *, canary: bool) -> None:
        """How a request to a device ended, for its breaker and its owner's; None: the device is gone."""
        if group is not None:
            self._router.report(group, ok, at_ms)
        # Canaries go where it hurts: one broken device must not stand for all of its owner's.
        if owner != PLATFORM_NETWORK and (
            not canary or self._router.breaker_state(owner.bytes, at_ms) != "closed"
        ):
            self._router.report_owner(owner.bytes, ok, at_ms)
        if canary and ok:
            # It may have closed a breaker, the owner's too.
            self.on_free(None, False)

    def breaker(self, offer: Offer) -> str:
        """The worse of the states of its device's and its owner's breaker."""
        states = [
            self._router.breaker_state(key, self._now_ms()) for key in (offer.group, offer.network_id.bytes)
        ]
        return next((state for state in ("open", "half_open") if state in states), "closed")

    def owner_fails(self, network_id: UUID) -> bool:
        """Whether the breaker over all devices of an owner is not closed."""
        return self._router.breaker_state(network_id.bytes, self._now_ms()) != "closed"

    def silent_seconds(self, offer: Offer) -> float:
        """For how long nothing was heard of an offer, by a request or a canary."""
        return (self._now_ms() - self._heard_ms[offer.id]) / 1000

    def at_work(self) -> Iterator[Offer]:
        """Offers that are online and take work, whoever they are for."""
        return (
            self._offers[offer_id]
            for device in self._online
            for offer_id in self._of_device.get(device, ())
            if offer_id not in self._closed
        )

    def rate(self, offer_id: UUID, score: float, weight: float, at: datetime) -> None:
        """What a requester said of an answer; of an offer that is gone, nothing."""
        if offer_id in self._offers and weight > 0:
            self._quality.observe(offer_id.bytes, "quality", score, at_ms=_ms(at), weight=weight)
            self._estimate(offer_id)

    def standing(self, offer: Offer) -> Standing:
        at_ms, key = self._now_ms(), offer.id.bytes
        quality = self._quality.estimate(key, "quality", at_ms=at_ms)
        rate = self._quality.estimate(key, "throughput", at_ms=at_ms)
        return Standing(
            quality=quality.lower_bound,
            availability=self._quality.estimate(key, "success", at_ms=at_ms).mean,
            latency_ms=self._quality.estimate(key, "latency_ms", at_ms=at_ms).mean,
            # Before the first job, what the test at the registration measured.
            tokens_per_second=rate.mean if rate.weight else float(offer.measured_tokens_per_second),
            weight=quality.weight,
        )

    def tick(self) -> None:
        """A new epoch of the scores: work fades, hours begin and end."""
        for offer_id in self._with_hours:
            self._open(self._offers[offer_id])
        self._router.tick(self._now_ms())
        self.on_free(None, False)

    def medians(self) -> list[tuple[str, str, int, int]]:
        """(model, kind, price, latency) at the middle of the offers that could serve the market now."""
        found = []
        for name, price, latency_ms in self._router.medians():
            kind, model = name.split("/", 1)
            found.append((model, kind, max(round(price), 1), max(round(latency_ms), 1)))
        return found

    def count(self, work: Work) -> None:
        """Hand over what was counted since the last call."""
        work.add(self._router.take_tallies(), self._router.take_asked(), self._offers.get, self.at_work)

    def running(self, network_id: UUID, device: UUID) -> int:
        """Jobs that run on a device, for whichever of its offers."""
        offer_id = next(iter(self._of_device.get((network_id, device), ())), None)
        return 0 if offer_id is None else self._router.load(self._offers[offer_id].group)

    def set_references(self, model: str, kind: str, price_microcents: int, latency_ms: int) -> None:
        self._router.set_references(
            f"{kind}/{model}",
            price_reference=float(price_microcents),
            latency_reference_ms=float(latency_ms),
        )

    # ---- inside ------------------------------------------------------------

    def _estimate(self, offer_id: UUID) -> None:
        standing = self.standing(self._offers[offer_id])
        self._router.set_estimates(
            offer_id.bytes,
            quality=standing.quality,
            latency_ms=standing.latency_ms,
            availability=standing.availability,
        )

    def _seed(self) -> int:
        return int.from_bytes(self._ids.secret(8), "big")

    def _now_ms(self) -> int:
        return _ms(self._clock.now())


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
