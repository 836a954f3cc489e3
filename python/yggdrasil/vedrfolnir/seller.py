"""`yggdrasil provide`: from a backend's address to a provider that serves until it is told to stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from yggdrasil.errors import InvalidInput, PaymentMethodRequired, Unavailable, YggdrasilError
from yggdrasil.vedrfolnir.account import Account, Audience, Model
from yggdrasil.vedrfolnir.backend import Backend, BackendError
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.provide import CAPACITY_JOBS_MAX, Kind, Provider, Served
from yggdrasil.vedrfolnir.terminal import cents, say

PRICE_CENTS_MAX: Final = 1_000_000
PRICE_UNITS: Final = (1_000, 1_000_000)
CONTEXT_TOKENS_MAX: Final = 100_000_000
BALANCE_SECONDS: Final = 2.0
NAMES_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Sale:
    """What `provide` was asked to sell, checked: InvalidInput names the option that breaks its rule."""

    chat_models: tuple[str, ...]
    embeddings_models: tuple[str, ...]
    price_cents: int
    price_unit_tokens: int
    context_tokens_max: int
    capacity_jobs: int
    audience: Audience
    supported_parameters: tuple[str, ...] = ()
    """Of its chat models; the server knows the names."""

    def __post_init__(self) -> None:
        names = self.chat_models + self.embeddings_models
        if not names:
            raise InvalidInput("model: at least one --model or --embeddings-model is needed", field="model")
        if len(set(names)) != len(names):
            raise InvalidInput("model: each name once", field="model")
        if not 0 <= self.price_cents <= PRICE_CENTS_MAX:
            raise InvalidInput(f"price: must be 0 to {PRICE_CENTS_MAX} whole cents", field="price")
        if self.price_unit_tokens not in PRICE_UNITS:
            raise InvalidInput("per: must be 1000 or 1000000 tokens", field="per")
        if not 1 <= self.capacity_jobs <= CAPACITY_JOBS_MAX:
            raise InvalidInput(f"capacity: must be 1 to {CAPACITY_JOBS_MAX} jobs", field="capacity")
        if not 1 <= self.context_tokens_max <= CONTEXT_TOKENS_MAX:
            raise InvalidInput(f"context-tokens: must be 1 to {CONTEXT_TOKENS_MAX}", field="context-tokens")

    def models(self) -> list[Model]:
        """The offers to register."""

        def offers(kind: Kind, names: tuple[str, ...]) -> list[Model]:
            price = (self.price_cents, self.price_unit_tokens)
            taken = self.supported_parameters if kind == "chat" else ()
            return [Model(name, kind, *price, self.context_tokens_max, taken) for name in names]

        return offers("chat", self.chat_models) + offers("embeddings", self.embeddings_models)


async def check_models(backend: Backend, sale: Sale) -> None:
    """Every model for sale must be one the backend has. Unavailable if it cannot be asked."""
    try:
        known = await backend.models()
    except BackendError as error:
        raise Unavailable(f"{backend.url}: {error.message}") from error
    for model in sale.models():
        if model.model not in known:
            names = ", ".join(known[:NAMES_SHOWN]) or "none"
            raise InvalidInput(f"model: the backend has no {model.model!r}; it has: {names}", field="model")


async def sell(account: Account, backend: Backend, sale: Sale) -> None:
    """Register device and offers, then serve until cancelled or the connection ends for good."""
    fresh = asyncio.Event()

    def served(job: Served) -> None:
        tokens = f"{job.prompt_tokens} + {job.completion_tokens} tokens"
        say(f"{job.outcome} {job.kind} {job.model}: {tokens} in {job.seconds:.2f} s")
        if job.outcome == "done":
            fresh.set()

    provider = Provider(
        backend,
        {model.model: model.kind for model in sale.models()},
        capacity_jobs=sale.capacity_jobs,
        on_accepted=lambda kind, model: say(f"accepted {kind} {model}"),
        on_served=served,
    )
    connection = Connection.of(
        account.identity, account.token, on_state=lambda state, detail: say(f"{state}: {detail}")
    )
    connection.on_job(provider.handle)
    async with connection:
        try:
            await account.register_provider(
                sale.models(), audience=sale.audience, capacity_jobs=sale.capacity_jobs
            )
        except PaymentMethodRequired as error:
            raise PaymentMethodRequired(
                f"{error.detail}; run: yggdrasil payment-method --purpose payout, or sell with --own"
            ) from error
        for model in sale.models():
            price = f"{model.price_cents} cents per {model.price_unit_tokens:,} tokens"
            say(f"offering {model.model} ({model.kind}) at {price}, audience {sale.audience}")
        watching = asyncio.create_task(_earnings(account, fresh)) if sale.audience == "market" else None
        try:
            await connection.wait()
        finally:
            if watching is not None:
                watching.cancel()


async def _earnings(account: Account, fresh: asyncio.Event) -> None:
    """Print what was earned, some moments after jobs were done."""
    while True:
        await fresh.wait()
        await asyncio.sleep(BALANCE_SECONDS)  # the server settles after our last word; many jobs, one line
        fresh.clear()
        try:
            balance = await account.balance()
        except YggdrasilError:
            continue  # the next job asks again
        say(f"earnings: {cents(balance['earnings_microcents'])}")
