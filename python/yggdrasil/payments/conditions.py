"""What the functions of the ledger (migration 0011) answer and raise, as errors of ours."""

from __future__ import annotations

from asyncpg.exceptions import NumericValueOutOfRangeError, PostgresError, UniqueViolationError

from yggdrasil.errors import (
    Conflict,
    LedgerError,
    MoneyOverflow,
    PaymentMethodRequired,
    PaymentRequired,
    SpendLimitReached,
    Unauthenticated,
    YggdrasilError,
)

BROKEN = "YG002"
HOLD_ENDED = "YG003"


def condition(error: BaseException) -> str | None:
    """The SQLSTATE of what PostgreSQL raised; None for other errors."""
    return error.sqlstate if isinstance(error, PostgresError) else None


def refusal(outcome: str) -> YggdrasilError:
    """Why a hold was not made. LedgerError for an outcome that is none."""
    match outcome:
        case "method":
            return PaymentMethodRequired("spending needs a verified payment method")
        case "cover":
            return PaymentRequired("the available balance does not cover this request's maximum cost")
        case "key":
            return Unauthenticated()
        case "limit":
            return SpendLimitReached(
                "the API key's spend limit does not cover this request's maximum cost: lower max_cost, or use"
                " another key"
            )
        case "hold_used":
            return Conflict("hold_id: was used before", field="hold_id")
        case _:
            return LedgerError(f"the ledger answered {outcome}")


def ledger_error(error: BaseException) -> YggdrasilError | None:
    """What the end of a hold raised, as the caller should see it; None if it is no condition of its."""
    if condition(error) == BROKEN:
        return LedgerError(str(error))
    if isinstance(error, UniqueViolationError) and error.constraint_name == "entries_pkey":
        return LedgerError("transfer_id: was used for another settlement")
    if isinstance(error, NumericValueOutOfRangeError):
        return MoneyOverflow("earnings_microcents: the balance would leave the range of the ledger")
    return None
