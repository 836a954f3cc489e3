"""Pure: what an API key may ask for. Every way to a provider asks here before its admission."""

from __future__ import annotations

from yggdrasil.errors import Forbidden
from yggdrasil.kernel import Network

SHOWN_MAX = 8


def may_ask(scope: Network, model: str) -> bool:
    """Whether the key of this scope, if there is one, is for that model."""
    return scope.key_models is None or model in scope.key_models


def check_model(scope: Network, model: str) -> None:
    """Forbidden, which names the wish and what the key is for, unless `may_ask`."""
    if scope.key_models is not None and model not in scope.key_models:
        shown = ", ".join(scope.key_models[:SHOWN_MAX])
        more = len(scope.key_models) - SHOWN_MAX
        others = f" and {more} others" if more > 0 else ""
        raise Forbidden(f"model: this API key is for {shown}{others} only", field="model")
