"""Which request parameters an offer honours, and which a request uses. The names are OpenRouter's
`supported_parameters`, as far as a body here may hold them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from yggdrasil.errors import InvalidInput, NoProvider
from yggdrasil.marketplace.requests import Kind, Offer

EVERY_OFFER: Final[Mapping[Kind, frozenset[str]]] = {
    "chat": frozenset({"max_tokens", "n", "stop", "temperature", "top_p"}),
    "embeddings": frozenset(),
}
"""What every OpenAI-compatible server takes, or we see to: it needs no declaration."""

KNOWN: Final[Mapping[Kind, frozenset[str]]] = {
    "chat": EVERY_OFFER["chat"]
    | {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "min_p",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "seed",
        "structured_outputs",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "verbosity",
    },
    "embeddings": frozenset({"dimensions"}),
}
_NONE: Final = frozenset({"messages", "input", "encoding_format"})


def check(kind: Kind, names: Sequence[str]) -> tuple[str, ...]:
    """A declaration, sorted. InvalidInput names the first name that is not known, or stands twice."""
    known = KNOWN[kind]
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"supported_parameters: must be of {', '.join(sorted(known))} for {kind}",
                field="supported_parameters",
            )
    if len(set(names)) != len(names):
        raise InvalidInput("supported_parameters: must list each once", field="supported_parameters")
    return tuple(sorted(names))


def supported(offer: Offer) -> frozenset[str]:
    """What an offer takes."""
    return EVERY_OFFER[offer.kind].union(offer.parameters)


def used(kind: Kind, body: Mapping[str, Any]) -> list[str]:
    """Parameters of a request that not every offer takes, by name."""
    names = {name for name, value in body.items() if value is not None} - _NONE
    if "response_format" in names:
        names.discard("response_format")
        form = body["response_format"]["type"]
        if form != "text":
            names.add("structured_outputs" if form == "json_schema" else "response_format")
    return sorted(names - EVERY_OFFER[kind])


def refusal(offers: Iterable[Offer], needed: Sequence[str]) -> NoProvider:
    """Why none of the offers takes all that is needed: the first parameter that none declares."""
    declared = frozenset[str]().union(*(offer.parameters for offer in offers))
    alone = next((name for name in needed if name not in declared), None)
    if alone is not None:
        text = f"no fitting offer declares that it takes {alone}"
    else:
        text = f"no fitting offer declares that it takes all of {', '.join(needed)}"
    return NoProvider(f"require_parameters: {text}", field="require_parameters")
