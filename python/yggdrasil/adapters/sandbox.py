"""The sandbox payment gateway: a stand-in for a payment provider, for development, demonstrations and tests.

It takes no money from anybody. It remembers its charges in a table of its own, as a provider would, so that
"did that charge happen?" has the same answer after a restart. It misbehaves when told to by the token of the
method:

| token | what it does |
|---|---|
| `sandbox_ok` | verifies; charges succeed |
| `sandbox_declined` | does not verify; charges fail |
| `sandbox_charge_declined` | verifies; charges fail |
| `sandbox_transfer` | verifies by a test transfer of 32 cents, whose amount is the proof |
| `sandbox_timeout` | verifies; charges take effect, but the answer is lost |
| `sandbox_lost` | verifies; charges are lost on the way: no effect, no answer |
| `sandbox_late` | verifies; no answer, and the charge shows up 60 seconds later |
| `sandbox_pending` | verifies; charges are decided 60 seconds later |
| `sandbox_slow` | verifies; charges take 3 seconds |

Any other token is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from yggdrasil.db import Database
from yggdrasil.errors import ConfigurationError, Conflict, Timeout
from yggdrasil.kernel import Clock, System
from yggdrasil.ports import Charge, MethodCheck

JOB: Final = System("sandbox-gateway")
LATE_SECONDS: Final = 60
SLOW_SECONDS: Final = 3.0
TRANSFER_CENTS: Final = "32"


@dataclass(frozen=True, slots=True)
class _Behaviour:
    verifies: bool = True
    transfer: bool = False
    declines: bool = False
    takes_effect: bool = True
    answers: bool = True
    known_after_seconds: int = 0
    slow: bool = False


_TOKENS: Final = {
    "sandbox_ok": _Behaviour(),
    "sandbox_declined": _Behaviour(verifies=False, declines=True),
    "sandbox_charge_declined": _Behaviour(declines=True),
    "sandbox_transfer": _Behaviour(transfer=True),
    "sandbox_timeout": _Behaviour(answers=False),
    "sandbox_lost": _Behaviour(takes_effect=False, answers=False),
    "sandbox_late": _Behaviour(answers=False, known_after_seconds=LATE_SECONDS),
    "sandbox_pending": _Behaviour(known_after_seconds=LATE_SECONDS),
    "sandbox_slow": _Behaviour(slow=True),
}
_REFUSED: Final = _Behaviour(verifies=False, declines=True)


class SandboxGateway:
    """A `PaymentGateway` that moves no money. Raises ConfigurationError in production."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        environment: str,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if environment == "production":
            raise ConfigurationError("payment_gateway: the sandbox gateway is refused in production")
        self._database = database
        self._clock = clock
        self._pause = pause

    @property
    def name(self) -> str:
        return "sandbox"

    async def verify(self, *, token: str, kind: str, proof: str | None) -> MethodCheck:  # noqa: ARG002
        behaviour = _TOKENS.get(token, _REFUSED)
        if not behaviour.verifies:
            return MethodCheck("refused", "the sandbox refuses this token")
        if behaviour.transfer and proof is None:
            return MethodCheck("pending", "a test transfer was sent: send its amount in cents as `proof`")
        if behaviour.transfer and proof != TRANSFER_CENTS:
            return MethodCheck("refused", "this is not the amount of the test transfer")
        return MethodCheck("verified")

    async def charge(self, *, token: str, amount_cents: int, currency: str, idempotency_key: UUID) -> Charge:
        behaviour = _TOKENS.get(token, _REFUSED)
        if behaviour.slow:
            await self._pause(SLOW_SECONDS)
        if behaviour.takes_effect:
            await self._remember(behaviour, token, amount_cents, currency, idempotency_key)
        if not behaviour.answers:
            raise Timeout("the sandbox gateway did not answer")
        found = await self.find_charge(idempotency_key)
        return found or Charge("pending", "", amount_cents, currency)

    async def find_charge(self, idempotency_key: UUID) -> Charge | None:
        async with self._database.transaction(JOB) as tx:
            row = await tx.fetchrow(
                """
                SELECT state, gateway_ref, amount_cents, currency, failure_code FROM platform.sandbox_charges
                WHERE idempotency_key = $1 AND visible_at <= $2
                """,
                idempotency_key,
                self._clock.now(),
            )
        return None if row is None else Charge(**row)

    async def _remember(
        self, behaviour: _Behaviour, token: str, amount_cents: int, currency: str, idempotency_key: UUID
    ) -> None:
        """The first charge under a key is kept; the same again changes nothing; another is refused."""
        now = self._clock.now()
        async with self._database.transaction(JOB) as tx:
            await tx.execute(
                """
                INSERT INTO platform.sandbox_charges (idempotency_key, token, amount_cents, currency,
                    state, gateway_ref, failure_code, visible_at, created_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (idempotency_key) DO NOTHING
                """,
                idempotency_key,
                token,
                amount_cents,
                currency,
                "failed" if behaviour.declines else "succeeded",
                f"sandbox_{idempotency_key.hex}",
                "declined" if behaviour.declines else None,
                now + timedelta(seconds=behaviour.known_after_seconds),
                now,
            )
            row = await tx.fetchrow(
                """
                SELECT token, amount_cents, currency FROM platform.sandbox_charges WHERE idempotency_key = $1
                """,
                idempotency_key,
            )
        kept = None if row is None else (row["token"], row["amount_cents"], row["currency"])
        if kept != (token, amount_cents, currency):
            raise Conflict("idempotency_key: was used for another charge")
