"""What travels between the rooms of payments and over the edge."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

MethodKind = Literal["card", "sepa", "paypal", "sandbox"]
Purpose = Literal["spend", "payout", "both"]
MethodState = Literal["unverified", "pending", "verified", "removed"]
TopUpState = Literal["created", "charging", "succeeded", "failed", "unknown"]


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """A way to pay or to be paid. `hint` says what to do next; the gateway's token never leaves."""

    method_id: UUID
    gateway: str
    kind: MethodKind
    purpose: Purpose
    state: MethodState
    is_default: bool
    label: str
    created_at: datetime
    hint: str = ""


class TopUp(msgspec.Struct, frozen=True, kw_only=True):
    """Money on its way into the wallet. `unknown`: the provider did not answer and is asked again."""

    payment_id: UUID
    method_id: UUID
    amount_cents: int
    currency: str
    state: TopUpState
    failure_code: str | None
    created_at: datetime
    updated_at: datetime


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """What a network has. 1 cent = 1,000,000 micro-cents; available = posted - held."""

    currency: str
    wallet_posted_microcents: int
    wallet_held_microcents: int
    wallet_available_microcents: int
    earnings_microcents: int
