"""Which offers a request can reach under its wishes: the lists that the router is asked for. In memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Final, Protocol
from uuid import UUID

from yggdrasil.errors import InvalidInput, NoProvider
from yggdrasil.kernel import Network
from yggdrasil.marketplace import auto
from yggdrasil.marketplace.allowed import may_ask
from yggdrasil.marketplace.auto import ModelChoice
from yggdrasil.marketplace.fitting import fit, groups
from yggdrasil.marketplace.pseudonym import Pseudonyms
from yggdrasil.marketplace.requests import ComputeRequest, Offer

KEYS_MAX: Final = 1_024


class Market(Protocol):
    """All offers, and how they stand."""

    def offer(self, offer_id: UUID) -> Offer | None: ...
    def takes_work(self, offer: Offer) -> bool: ...
    def may_see(self, scope: Network, offer: Offer) -> bool: ...
    def online(self, offer: Offer) -> bool: ...
    def standing(self, offer: Offer) -> auto.Standing: ...


class Reach:
    """Looks into the market's indexes, which stay the market's own."""

    def __init__(
        self,
        market: Market,
        pseudonyms: Pseudonyms,
        of_network: Mapping[UUID, set[UUID]],
        of_model: Mapping[tuple[str, str], set[UUID]],
        seed: Callable[[], int],
    ) -> None:
        self._market = market
        self._pseudonyms = pseudonyms
        self._of_network = of_network
        self._of_model = of_model
        self._seed = seed

    def named(self, scope: Network, names: Sequence[str], field: str) -> list[bytes]:
        """Keys of offers by the names the caller knows them by."""
        keys = []
        for name in names:
            offer = self._pseudonyms.offer(scope.network_id, name)
            if offer is None:
                raise InvalidInput(f"{field}: must list offers such as offer_<32 hex digits>", field=field)
            keys.append(offer.bytes)
        return keys

    def of_user(self, scope: Network) -> list[Offer]:
        """The caller's own offers in the own network."""
        found = (self._market.offer(offer_id) for offer_id in self._of_network.get(scope.network_id, ()))
        mine = [offer for offer in found if offer is not None and offer.user_id == scope.user_id]
        return sorted(mine, key=lambda offer: (offer.model, offer.id))

    def lists(self, scope: Network, request: ComputeRequest) -> Iterator[list[bytes]]:
        """What the router is asked for, one after another, as its `only`; an empty list is any offer.
        Raises NoProvider naming a wish that leaves nothing to ask for."""
        wishes = request.wishes
        allowed = self.named(scope, wishes.only, "only")
        order = self.named(scope, wishes.order, "order")
        if wishes.scope != "market":
            allowed = self._at_home(scope, request, allowed if wishes.only else None)
        asked = [allowed]
        if wishes.narrow and (found := self._narrowed(scope, request, allowed)):
            allowed = [offer.id.bytes for offer in found]
            asked = [
                [offer.id.bytes for offer in self._at_most(group)]
                for group in groups(found, self._market.standing, wishes.sort)
            ]
        yield from ([key] for key in order if not allowed or key in allowed)
        if wishes.allow_fallbacks or not order:
            yield from asked

    def models(
        self, scope: Network, request: ComputeRequest, tokens_needed: Callable[[str], int]
    ) -> ModelChoice:
        """Rank the models that the request can reach now. Raises NoProvider."""
        wishes = request.wishes
        listed = set(self.named(scope, wishes.only, "only"))
        ignored = set(self.named(scope, wishes.ignore, "ignore"))
        if wishes.order and not wishes.allow_fallbacks:
            ordered = set(self.named(scope, wishes.order, "order"))
            listed = listed & ordered if listed else ordered
        ids = [one for (kind, _), known in self._of_model.items() if kind == request.kind for one in known]
        return auto.choose(
            (
                offer
                for offer in self._reachable(scope, request, ids)
                if self._market.online(offer) and may_ask(scope, offer.model)
            ),
            request,
            standing=self._market.standing,
            tokens_needed=tokens_needed,
            listed=lambda offer: not (wishes.only or listed) or offer.id.bytes in listed,
            ignored=lambda offer: offer.id.bytes in ignored,
        )

    def of_model(self, scope: Network, request: ComputeRequest) -> list[Offer]:
        """Offers of the model that the request could be sent to, were they free and its other wishes met."""
        return self._reachable(scope, request, self._of_model.get((request.kind, request.model), ()))

    def _narrowed(self, scope: Network, request: ComputeRequest, allowed: list[bytes]) -> list[Offer]:
        """The offers of the model that meet all wishes; empty if nobody has the model at all."""
        known = set(allowed)
        ignored = set(self.named(scope, request.wishes.ignore, "ignore"))
        reachable = [
            offer
            for offer in self.of_model(scope, request)
            if (not known or offer.id.bytes in known) and offer.id.bytes not in ignored
        ]
        return fit(reachable, self._market.standing, request)

    def _reachable(self, scope: Network, request: ComputeRequest, ids: Iterable[UUID]) -> list[Offer]:
        """Those of the offers that the request could be sent to, by the scope it asks for."""
        wished = request.wishes.scope
        found = [
            offer
            for offer_id in ids
            if (offer := self._market.offer(offer_id)) is not None
            and self._market.takes_work(offer)
            and self._market.may_see(scope, offer)
            and (offer.network_id != scope.network_id) == (wished == "market")
            and (wished != "own" or offer.user_id == scope.user_id)
        ]
        return sorted(found, key=lambda offer: offer.id)

    def _at_most(self, offers: list[Offer]) -> list[Offer]:
        """As many as the router takes in a list; of more, some by chance."""
        if len(offers) <= KEYS_MAX:
            return offers
        return Random(self._seed()).sample(offers, KEYS_MAX)  # noqa: S311  # no secret: a fair share

    def told(self, scope: Network, request: ComputeRequest, gates: dict[str, int]) -> dict[str, int]:
        """The gates, without that of the own network's offers if the caller may know of none of them."""
        if gates.get("owner") and not self._seen_at_home(scope, request):
            return gates | {"owner": 0}
        return gates

    def _seen_at_home(self, scope: Network, request: ComputeRequest) -> list[Offer]:
        """The own network's offers of the model that the caller may know of."""
        return [
            offer
            for offer_id in self._of_network.get(scope.network_id, ())
            if (offer := self._market.offer(offer_id)) is not None
            and (offer.kind, offer.model) == (request.kind, request.model)
            and self._market.may_see(scope, offer)
        ]

    def _at_home(self, scope: Network, request: ComputeRequest, only: list[bytes] | None) -> list[bytes]:
        """The offers of the own network that this request may use."""
        fitting = self._seen_at_home(scope, request)
        if not fitting:
            raise NoProvider("model: no offer of your network has it", field="model")
        mine = request.wishes.scope == "own"
        keys = [offer.id.bytes for offer in fitting if not mine or offer.user_id == scope.user_id]
        if not keys:
            raise NoProvider(
                f"scope: no offer with scope {request.wishes.scope} has this model", field="scope"
            )
        if only is not None:
            keys = [key for key in keys if key in set(only)]
            if not keys:
                raise NoProvider("only: none of the offers listed fits", field="only")
        return keys[:KEYS_MAX]
