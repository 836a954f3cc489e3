# ruff: noqa: E501  what is replaced has its own lines
"""Leaks of the market: what an offer, a card, a trade and a job tell of the other side."""

from __future__ import annotations

from tests.isolation.mutants import Mutant, Patch

ROUTES = "tests/isolation/test_routes.py"

MUTANTS = (
    Mutant(
        "presence-told-to-strangers",
        "offers of other networks are shown while their devices are away",
        ("tests/marketplace/test_offers.py",),
        (
            Patch(
                "marketplace/routing.py",
                'return offer.audience == "market" and self.takes_work(offer) and self.online(offer)',
                'return offer.audience == "market" and self.takes_work(offer)',
            ),
        ),
    ),
    Mutant(
        "private-offers-shown-to-strangers",
        "offers for the own network are shown to others",
        ("tests/marketplace/test_offers.py::test_each_sees_what_is_for_him",),
        (
            Patch(
                "marketplace/routing.py",
                'return offer.audience == "market" and self.takes_work(offer) and self.online(offer)',
                "return self.takes_work(offer) and self.online(offer)",
            ),
        ),
    ),
    Mutant(
        "offer-names-its-provider",
        "an offer shows the provider behind it to everybody",
        (ROUTES + "::test_offers_do_not_name_their_owners", "tests/marketplace"),
        (
            Patch(
                "marketplace/shown.py",
                "provider_id=offer.provider if mine else None",
                "provider_id=offer.provider",
            ),
        ),
    ),
    Mutant(
        "latency-to-the-millisecond",
        "an offer's latency is shown exactly: a clock to recognise a device by",
        ("tests/marketplace/test_borders.py",),
        (
            Patch(
                "marketplace/shown.py",
                'latency=_under(_LATENCY_MS, standing.latency_ms, "4_s_or_more"),',
                'latency=f"{standing.latency_ms:.0f}_ms",',
            ),
        ),
    ),
    Mutant(
        "card-with-real-ids",
        "the decision card names offers by the ids that all networks share",
        ("tests/marketplace/test_borders.py", "tests/marketplace/test_serving.py"),
        (
            Patch(
                "marketplace/routing.py",
                "                    partial(self._pseudonyms.name, scope.network_id), json_decode(decision.card())\n",
                '                    lambda one: f"offer_{one.hex}", json_decode(decision.card())\n',
            ),
        ),
    ),
    Mutant(
        "card-with-counts",
        "the decision card counts the offers that failed each gate",
        ("tests/marketplace/test_borders.py", "tests/marketplace/test_pure.py"),
        (
            Patch(
                "marketplace/picking.py",
                '[gate for gate, count in card["gates"].items() if count and gate not in _WHOSE]',
                '[f"{gate}:{count}" for gate, count in card["gates"].items() if count and gate not in _WHOSE]',
            ),
        ),
    ),
    Mutant(
        "card-with-whose",
        "the decision card says that another member offers something, to himself alone",
        ("tests/marketplace/test_borders.py",),
        (
            Patch(
                "marketplace/picking.py",
                '_WHOSE: Final = ("model", "owner", "only")',
                '_WHOSE: Final = ("model",)',
            ),
        ),
    ),
    Mutant(
        "one-id-for-both-sides",
        "buyer and seller see the same transaction id, and can find each other by it",
        ("tests/marketplace/test_borders.py", "tests/marketplace/test_serving.py"),
        (
            Patch(
                "marketplace/choosing.py",
                "provider_transaction=None if himself else self._ids.uuid(),",
                "provider_transaction=None if himself else run.transaction_id,",
            ),
        ),
    ),
    Mutant(
        "job-names-the-requester",
        "the provider's device is told the requester's network",
        ("tests/marketplace/test_serving.py::test_nothing_of_the_provider_or_the_requester_leaks",),
        (
            Patch(
                "marketplace/attempt.py",
                '        body: dict[str, Any] = {"model": request.model, **request.body}\n',
                '        body: dict[str, Any] = {"model": request.model, **request.body}\n'
                '        body["user"] = str(self._run.scope.network_id)\n',
            ),
        ),
    ),
)
