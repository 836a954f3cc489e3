"""What the marketplace asks before it takes a provider: the facts of its tests, and who decides on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from yggdrasil.errors import ProviderFailed
from yggdrasil.kernel import Network


class Facts(msgspec.Struct, frozen=True):
    """What one model's test showed. `why`: why there is no answer. Times are milliseconds, tokens are counted
    by us (`claimed_tokens`: by the device)."""

    model: str
    kind: str
    answered: bool
    why: str
    latency_ms: int | None
    tokens_per_second: int | None
    observed_tokens: int
    claimed_tokens: int | None


class Asked(msgspec.Struct, frozen=True):
    """A registration as it was asked for, so that it can be asked again."""

    device_id: str
    audience: str
    capacity_jobs: int
    hours: list[dict[str, Any]]
    zone: str
    models: list[dict[str, Any]]


class Court(Protocol):
    """Decides on a registration and keeps the decision."""

    async def decide(self, scope: Network, asked: Asked, facts: Sequence[Facts]) -> None:
        """Returns if it is accepted; raises ProviderFailed if it is refused."""
        ...


def failed(facts: Sequence[Facts]) -> ProviderFailed | None:
    """What a device that does not answer is told."""
    for fact in facts:
        if not fact.answered:
            return ProviderFailed(
                f"The test of model {fact.model} on the device failed: {fact.why}", field="models"
            )
    return None
