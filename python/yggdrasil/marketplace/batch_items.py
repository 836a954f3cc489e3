"""What a running request writes in batches: items of `platform.admit_batch` and `finish_batch`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import PLATFORM_NETWORK
from yggdrasil.marketplace.requests import sources
from yggdrasil.marketplace.store_run import Bill, Ending, NewAttempt, NewTransaction, SealedResult
from yggdrasil.payments.ledger import month_of

INTEGER_MAX: Final = 2**31 - 1
BIGINT_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Admission:
    """An item of `platform.admit_batch`. `queued`: the requester's row exists, PENDING. InvalidInput, naming
    the field, for what cannot be sent to the database: in a batch it would be the error of all."""

    new: NewTransaction
    attempt: NewAttempt
    hold_microcents: int
    queued: bool
    at: datetime

    def __post_init__(self) -> None:
        new, attempt, offer = self.new, self.attempt, self.attempt.offer
        _check_texts(
            ("scope", new.scope),
            ("kind", new.kind),
            ("model", new.model),
            ("idempotency_key", new.idempotency_key),
            ("rounding", offer.rounding),
            ("decision_card", attempt.decision_card),
        )
        _check_numbers(
            INTEGER_MAX,
            ("price_unit_tokens", offer.price_unit_tokens),
            ("fee_basis_points", attempt.fee_basis_points),
            ("ordinal", attempt.ordinal),
        )
        _check_numbers(
            BIGINT_MAX, ("price_cents", offer.price_cents), ("hold_microcents", self.hold_microcents)
        )

    def row(self) -> tuple[Any, ...]:
        """platform.admission"""
        new, attempt, offer = self.new, self.attempt, self.attempt.offer
        return (
            _scope(new.network_id, offer.network_id),
            self.queued,
            new.network_id,
            new.transaction_id,
            new.user_id,
            new.device,
            new.key_id,
            month_of(self.at, new.key_id),
            new.scope,
            new.kind,
            new.model,
            new.idempotency_key,
            new.created_at,
            offer.price_cents,
            offer.price_unit_tokens,
            offer.rounding,
            attempt.fee_basis_points,
            attempt.decision_card,
            attempt.hold_id,
            self.hold_microcents,
            attempt.attempt_id,
            attempt.ordinal,
            offer.network_id,
            attempt.provider_transaction,
            offer.user_id,
            offer.device,
            offer.provider,
            offer.id,
            attempt.node_id,
            attempt.boot_id,
            attempt.started_at,
            attempt.deadline_at,
            self.at,
        )

    def order(self) -> tuple[Any, ...]:
        """By network, then in the order of idempotency keys."""
        return self.new.network_id, self.new.user_id, self.new.idempotency_key or ""

    def networks(self) -> tuple[UUID, ...]:
        """Whose balances are locked."""
        return (self.new.network_id,) if self.attempt.hold_id is not None else ()


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """An item of `platform.finish_batch`. `hold_state` is how the hold ends: posted, voided or expired.
    InvalidInput as for `Admission`."""

    attempt_id: UUID
    requester_network: UUID
    provider_network: UUID
    hold_id: UUID | None
    hold_state: str
    ending: Ending
    bill: Bill
    result: SealedResult | None = None

    def __post_init__(self) -> None:
        ending, bill = self.ending, self.bill
        _check_texts(
            ("attempt_state", ending.attempt_state),
            ("error_code", ending.error_code),
            ("verdict", ending.verdict),
            ("hold_state", self.hold_state),
        )
        _check_numbers(
            INTEGER_MAX,
            ("latency_ms", ending.latency_ms),
            ("tokens_per_second", ending.tokens_per_second),
            ("quality_ppm", ending.quality_ppm),
        )
        _check_numbers(
            BIGINT_MAX,
            ("observed_tokens", ending.observed_tokens),
            ("claimed_tokens", ending.claimed_tokens),
            ("prompt_tokens", bill.prompt_tokens),
            ("completion_tokens", bill.completion_tokens),
            ("total_microcents", bill.total_microcents),
            ("fee_microcents", bill.fee_microcents),
            ("earnings_microcents", bill.earnings_microcents),
        )

    def row(self) -> tuple[Any, ...]:
        """platform.attempt_end"""
        ending, bill, result = self.ending, self.bill, self.result
        paid = (PLATFORM_NETWORK,) if self.hold_state == "posted" else ()
        return (
            _scope(self.requester_network, self.provider_network, *paid),
            self.attempt_id,
            ending.attempt_state,
            ending.error_code,
            ending.observed_tokens,
            ending.claimed_tokens,
            ending.latency_ms,
            ending.tokens_per_second,
            ending.at,
            bill.state.value,
            sources(bill.state),
            bill.prompt_tokens,
            bill.completion_tokens,
            bill.total_microcents,
            bill.fee_microcents,
            bill.earnings_microcents,
            self.requester_network,
            self.provider_network,
            self.hold_id,
            self.hold_state,
            None if result is None else result.nonce,
            None if result is None else result.sealed,
            None if result is None else result.expires_at,
            ending.quality_ppm,
            ending.verdict,
        )

    def order(self) -> tuple[Any, ...]:
        """By attempt."""
        return (self.attempt_id,)

    def networks(self) -> tuple[UUID, ...]:
        """Whose balances are locked."""
        return () if self.hold_id is None else (self.requester_network, self.provider_network)


def _check_texts(*fields: tuple[str, str | None]) -> None:
    """What PostgreSQL takes for text: all of Unicode but NUL, and no half of a surrogate pair."""
    for name, text in fields:
        if text is None:
            continue
        if not isinstance(text, str):
            raise InvalidInput(f"{name}: must be a text", field=name)
        if "\0" in text:
            raise InvalidInput(f"{name}: must not contain the character NUL", field=name)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InvalidInput(f"{name}: must not contain half a surrogate pair", field=name) from None


def _check_numbers(most: int, *fields: tuple[str, int | None]) -> None:
    """Whole numbers of 0 to `most`; a bool or a float is none."""
    for name, number in fields:
        if number is not None and not (type(number) is int and 0 <= number <= most):
            raise InvalidInput(f"{name}: must be a whole number of 0 to {most}", field=name)


def _scope(*networks: UUID) -> list[UUID]:
    return list(dict.fromkeys(networks))
