"""The few things of the outside world with more than one implementation; those live in `adapters/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Charge:
    """What a payment provider says about one charge. `pending`: taken in, not decided yet; ask again."""

    state: Literal["succeeded", "failed", "pending"]
    gateway_ref: str
    amount_cents: int
    currency: str
    failure_code: str | None = None


@dataclass(frozen=True, slots=True)
class MethodCheck:
    """What a payment provider says about a payment method. `pending`: `detail` says what to do next."""

    state: Literal["verified", "pending", "refused"]
    detail: str = ""


class PaymentGateway(Protocol):
    """A payment provider. Whole cents at this edge.

    `charge` may raise anything, and may have had its effect all the same: only an answer is an answer. The
    same idempotency key never has a second effect, and `find_charge` says what became of it.
    """

    @property
    def name(self) -> str:
        """1 to 32 characters, stable: it is kept with every method and payment."""
        ...

    async def verify(self, *, token: str, kind: str, proof: str | None) -> MethodCheck:
        """Check a payment method. `proof`: what the person read off, such as a test transfer's amount."""
        ...

    async def charge(self, *, token: str, amount_cents: int, currency: str, idempotency_key: UUID) -> Charge:
        """Take `amount_cents` from the method."""
        ...

    async def find_charge(self, idempotency_key: UUID) -> Charge | None:
        """The charge made under this key, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one person, plain text. `to` is a normal-form address; nothing of it shows in a repr."""

    to: str = field(repr=False)
    subject: str = field(repr=False)
    text: str = field(repr=False)


class Mailer(Protocol):
    """A way to send mail."""

    async def send(self, mail: Mail) -> None:
        """Return once the next hop has taken the mail over; Unavailable if it did not."""
        ...
