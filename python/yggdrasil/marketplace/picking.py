"""What a requester is told of a pick: which wish was unmet, or the card of the decision. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from yggdrasil.errors import NoProvider
from yggdrasil.marketplace.wishes import Wishes

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


class BusyError(NoProvider):
    """Fitting offers exist, and what they lack is a free slot: waiting helps. `gates` are those that offers
    failed, for the books."""

    gates: tuple[str, ...] = ()


_WHOSE: Final = ("model", "owner", "only")
_PARTS: Final = ("price", "quality", "latency", "availability", "fairness")


def merged(gates: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Counts of several picks for one request."""
    return {name: max(gates.get(name, 0), more.get(name, 0)) for name in _UNMET}


def no_provider(gates: Mapping[str, int], wishes: Wishes) -> NoProvider:
    """The gate that the best of them failed; no counts, which would tell about others."""
    # Only of offers that meet everything else is it asked whether they have a slot.
    error = _unmet(BusyError if gates.get("capacity") else NoProvider, gates, wishes)
    if isinstance(error, BusyError):
        error.gates = tuple(name for name in _UNMET if gates.get(name))
    return error


def _unmet(made: type[NoProvider], gates: Mapping[str, int], wishes: Wishes) -> NoProvider:
    if wishes.order and not wishes.allow_fallbacks:
        return made(
            "order: none of the offers listed can take it now, and allow_fallbacks is false", field="order"
        )
    failed = [name for name in _UNMET if gates.get(name)]
    name = failed[-1] if failed else "only" if wishes.only else "model"
    if name == "only" and not wishes.only:
        # Our own narrowing, not the requester's list.
        name = "online"
    field, text = _UNMET[name]
    if name == "max_price":
        field = wishes.max_price_field
    return made(text, field=field, retry_after_seconds=1 if field is None else None)


def shown_card(name: Callable[[UUID], str], card: dict[str, Any]) -> dict[str, Any]:
    """The router's card with pseudonyms in place of ids, and no counts. Not of the gates that say whose an
    offer is: among those may be another member's, for himself."""
    candidates = []
    chosen = name(UUID(hex=card["chosen"]))
    for candidate in card["candidates"]:
        shown: dict[str, Any] = {
            "offer": chosen if candidate["chosen"] else name(UUID(hex=candidate["key"])),
            "score": round(candidate["score"], 3),
            "band": candidate["band"],
            "chosen": candidate["chosen"],
        }
        if candidate["chosen"]:
            shown["parts"] = {part: round(candidate[part], 2) for part in _PARTS}
        candidates.append(shown)
    return {
        "chosen": chosen,
        "explored": card["explored"],
        "propensity": card["propensity"],
        "feasible": card["feasible"],
        "gates_failed": [gate for gate, count in card["gates"].items() if count and gate not in _WHOSE],
        "candidates": candidates,
    }
