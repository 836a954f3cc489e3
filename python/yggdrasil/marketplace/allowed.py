"""Pure: what an API key may ask for, and who sees a provider. Every way to a provider asks here before its
admission.
"""

from __future__ import annotations

from uuid import UUID

from yggdrasil.errors import Forbidden
from yggdrasil.kernel import Network
from yggdrasil.users.roles import Action, may

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


def may_see(scope: Network, audience: str, user_id: UUID) -> bool:
    """Whether the viewer may see a provider of his own network: one that works for its owner alone is his."""
    return audience != "own" or user_id == scope.user_id


def may_look(scope: Network, audience: str, user_id: UUID) -> bool:
    """Whether the viewer's request for this provider is answered: his role may ask, and he may see it."""
    return may(scope.role, Action.SEE_DEVICES) and may_see(scope, audience, user_id)
