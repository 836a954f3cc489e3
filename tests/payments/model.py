"""The ledger as a few dictionaries, sharing no code with the real one, which must agree after every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from uuid import UUID


@dataclass
class ModelHold:
    network: UUID
    amount: int
    state: str = "pending"
    transfer: UUID | None = None
    total: int = 0
    fee: int = 0
    provider: UUID | None = None
    touched: set[object] = field(default_factory=set)


@dataclass
class Model:
    """Amounts in micro-cents. Every operation answers what the real one must answer."""

    wallet: dict[UUID, int] = field(default_factory=dict)
    earnings: dict[UUID, int] = field(default_factory=dict)
    holds: dict[UUID, ModelHold] = field(default_factory=dict)
    topped_up: int = 0
    fees: int = 0

    def network(self, network: UUID) -> None:
        self.wallet[network] = 0
        self.earnings[network] = 0

    def held(self, network: UUID) -> int:
        return sum(h.amount for h in self.holds.values() if h.network == network and h.state == "pending")

    def free(self, network: UUID) -> int:
        return self.wallet[network] - self.held(network)

    def topup(self, network: UUID, amount: int) -> None:
        self.wallet[network] += amount
        self.topped_up += amount

    def hold(self, network: UUID, hold_id: UUID, amount: int) -> str:
        if hold_id in self.holds:
            # Covered or not is asked first: only a hold that could be made finds its id taken.
            return "conflict" if self.free(network) >= amount else "refused"
        if self.free(network) < amount:
            return "refused"
        self.holds[hold_id] = ModelHold(network, amount)
        return "held"

    def settle(self, hold_id: UUID, transfer: UUID, total: int, provider: UUID, fee: int) -> str:
        hold = self.holds[hold_id]
        if provider == hold.network:
            return "bug"
        if hold.state == "posted":
            paid = (hold.transfer, hold.total, hold.fee, hold.provider)
            return "already" if paid == (transfer, total, fee, provider) else "bug"
        if hold.state != "pending":
            return "ended"
        touched: set[object] = {hold.network, provider, *(["platform"] if fee else [])}
        if total > hold.amount or any(
            h.transfer == transfer and h.touched & touched for h in self.holds.values()
        ):
            return "bug"
        hold.touched = touched
        hold.state, hold.transfer, hold.total, hold.fee, hold.provider = (
            "posted",
            transfer,
            total,
            fee,
            provider,
        )
        self.wallet[hold.network] -= total
        self.earnings[provider] += total - fee
        self.fees += fee
        return "posted"

    def end(self, hold_id: UUID, state: str) -> bool:
        hold = self.holds[hold_id]
        if hold.state != "pending":
            return False
        hold.state = state
        return True

    def check(self) -> None:
        """The model's own sanity: money is only ever moved."""
        assert all(self.free(network) >= 0 for network in self.wallet)
        assert sum(self.wallet.values()) + sum(self.earnings.values()) + self.fees == self.topped_up


def fee_of(total: int, basis_points: int) -> int:
    """floor(total x rate), by exact fractions."""
    exact = Fraction(total * basis_points, 10_000)
    fee = exact.numerator // exact.denominator
    assert 0 <= exact - fee < 1
    return fee
