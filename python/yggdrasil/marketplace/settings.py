"""What an operator may set about the marketplace, and who this server is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from yggdrasil.marketplace.requests import OUTPUT_TOKENS_DEFAULT
from yggdrasil.scoring.constants import NEWCOMER_PPM


@dataclass(frozen=True, slots=True)
class MarketSettings:
    """Limits and rates of the marketplace. Times are seconds unless they say otherwise."""

    fee_basis_points: int = 1_200
    output_tokens_default: int = OUTPUT_TOKENS_DEFAULT
    cost_microcents_default: int | None = None
    attempts_max: int = 4
    first_chunk_seconds: float = 30.0
    stall_seconds: float = 20.0
    settle_grace_seconds: float = 60.0
    settle_backoff_seconds: float = 0.2
    result_seconds: int = 900
    feedback_seconds: int = 86_400
    runs_max: int = 4_096
    runs_per_user_max: int = 64
    runs_per_network_max: int = 1_024
    """A network with many people must not fill the server alone."""
    breaks_per_hour_max: int = 60
    """Answers of the market to one network that break off after their first chunk, and are not paid for."""
    queue_max: int = 1_024
    """Requests that wait on this server for an offer that is busy, in all."""
    queue_per_network_max: int = 128
    queue_per_user_max: int = 32
    queue_seconds: float = 10.0
    """How long a request waits that does not say (`queue_seconds` of its wishes); 0: not at all."""
    keepalive_seconds: float = 10.0
    reconcile_seconds: float = 5.0
    node_silent_seconds: float = 20.0
    test_seconds: float = 30.0
    tolerance_percent: int = 25
    """By how much a provider's claim may exceed what we counted, until more is known of its model."""
    newcomer_picks_ppm: int = NEWCOMER_PPM
    """Picks in a million that go to an offer hardly ever picked, if there is one."""
    canaries_per_round: int = 4
    """Test jobs on idle offers every ten seconds, at most; 0: none, and requests test half-open breakers."""
    canary_idle_seconds: float = 600.0


class Node(Protocol):
    """This server process: the node keeps its id over restarts, a boot is one run of it."""

    @property
    def node_id(self) -> UUID: ...
    @property
    def boot_id(self) -> UUID: ...
