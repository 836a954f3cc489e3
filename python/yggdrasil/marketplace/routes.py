"""The REST edge of the marketplace."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation
from msgspec import Meta

from yggdrasil.devices.paging import LIMIT_DEFAULT, Page
from yggdrasil.errors import Conflict, InvalidInput, NotFound, YggdrasilError
from yggdrasil.kernel import Network
from yggdrasil.marketplace import sse
from yggdrasil.marketplace.bodies import ChatBody, EmbeddingsBody, Model, chat_request, embeddings_request
from yggdrasil.marketplace.providers import MODELS_MAX, Terms
from yggdrasil.marketplace.requests import ComputeRequest, idempotency_key_from, wishes_from
from yggdrasil.marketplace.run import Finished
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.marketplace.shown import OfferView, ProviderView
from yggdrasil.marketplace.store import TransactionView
from yggdrasil.marketplace.streaming import RunStream

TRANSACTION_HEADER = "x-yggdrasil-transaction"
COST_HEADER = "x-yggdrasil-cost-microcents"

MarketplaceDependency = NamedDependency[SkipValidation[Marketplace]]
CallerDependency = NamedDependency[SkipValidation[Network]]

Audience = Literal["own", "network", "market"]


class ModelTerms(msgspec.Struct, forbid_unknown_fields=True):
    """One model on offer. `price_cents` is per `price_unit_tokens`."""

    model: Model
    kind: Literal["chat", "embeddings"] = "chat"
    price_cents: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    price_unit_tokens: Literal[1000, 1000000] = 1000
    rounding: Literal["per_request", "per_statement"] = "per_request"
    context_tokens_max: Annotated[int, Meta(ge=1, le=100_000_000)] = 8_192


class RegisterProvider(msgspec.Struct, forbid_unknown_fields=True):
    """A device of the caller that will serve others."""

    device_id: Annotated[str, Meta(min_length=1, max_length=64)]
    models: Annotated[list[ModelTerms], Meta(min_length=1, max_length=MODELS_MAX)]
    audience: Audience = "market"
    capacity_jobs: Annotated[int, Meta(ge=1, le=1024)] = 1


class UpdateProvider(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out stays."""

    audience: Audience | None = None
    status: Literal["active", "paused"] | None = None
    capacity_jobs: Annotated[int, Meta(ge=1, le=1024)] | None = None
    models: Annotated[list[ModelTerms], Meta(min_length=1, max_length=MODELS_MAX)] | None = None


class NewRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A compute request: the OpenAI body in `request`, the wishes beside it."""

    kind: Literal["chat", "embeddings"]
    request: dict[str, Any]
    stream: bool = False
    scope: Audience = "market"
    max_cost_cents: int | None = None
    max_cost_microcents: int | None = None
    max_price_cents: int | None = None
    only: list[str] | None = None
    ignore: list[str] | None = None
    deadline_seconds: int | None = None
    idempotency_key: str | None = None


class RequestAnswer(msgspec.Struct, frozen=True):
    """How a request ended, and its answer. `result` is null if it is not kept (any more)."""

    transaction: TransactionView
    result: Any


def _terms(models: list[ModelTerms]) -> list[Terms]:
    return [
        Terms(
            model=asked.model,
            kind=asked.kind,
            price_cents=asked.price_cents,
            price_unit_tokens=asked.price_unit_tokens,
            rounding=asked.rounding,
            context_tokens_max=asked.context_tokens_max,
        )
        for asked in models
    ]


def _request(data: NewRequest) -> ComputeRequest:
    wishes = wishes_from(
        scope=data.scope,
        max_cost_cents=data.max_cost_cents,
        max_cost_microcents=data.max_cost_microcents,
        max_price_cents=data.max_price_cents,
        only=data.only,
        ignore=data.ignore,
        deadline_seconds=data.deadline_seconds,
    )
    key = idempotency_key_from(data.idempotency_key)
    try:
        if data.kind == "chat":
            return chat_request(msgspec.convert(data.request, ChatBody), wishes, key)
        return embeddings_request(msgspec.convert(data.request, EmbeddingsBody), wishes, key)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"request: {error}", field="request") from None


@post("/providers/register")
async def register_provider(
    data: JSONBody[RegisterProvider], caller: CallerDependency, marketplace: MarketplaceDependency
) -> ProviderView:
    """Register a device of the caller as a provider, after a test of every model on it."""
    return await marketplace.register_provider(
        caller,
        device_id=data.device_id,
        audience=data.audience,
        capacity_jobs=data.capacity_jobs,
        terms=_terms(data.models),
    )


@get("/providers")
async def list_providers(
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
    model: FromQuery[str | None] = None,
    within: FromQuery[Audience | None] = None,
    limit: FromQuery[int] = LIMIT_DEFAULT,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """Offers the caller may use, by pseudonyms of his network; his own are flagged."""
    return marketplace.offers(caller, model=model, within=within, limit=limit, cursor=cursor)


@get("/providers/{provider_id:str}")
async def get_provider(
    provider_id: FromPath[str], caller: CallerDependency, marketplace: MarketplaceDependency
) -> ProviderView | OfferView:
    """A provider of one's own network by its id, or an offer by its pseudonym."""
    return await marketplace.provider(caller, provider_id)


@put("/providers/{provider_id:str}")
async def update_provider(
    provider_id: FromPath[str],
    data: JSONBody[UpdateProvider],
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
) -> ProviderView:
    """Change a provider; `models` replace the list, and a new one is tested first."""
    return await marketplace.update_provider(
        caller,
        provider_id,
        audience=data.audience,
        status=data.status,
        capacity_jobs=data.capacity_jobs,
        terms=_terms(data.models) if data.models is not None else None,
    )


@delete("/providers/{provider_id:str}")
async def remove_provider(
    provider_id: FromPath[str], caller: CallerDependency, marketplace: MarketplaceDependency
) -> None:
    """Unregister a provider: its offers end at once."""
    await marketplace.remove_provider(caller, provider_id)


@post("/requests")
async def create_request(
    data: JSONBody[NewRequest], caller: CallerDependency, marketplace: MarketplaceDependency
) -> Response[RequestAnswer] | RunStream:
    """Run a compute request. With `stream` the answer is a stream of server-sent events: chunks, then
    `done` or
    `error`; the transaction is in the header from the start. A repeated `idempotency_key` gets the first
    one's answer."""
    request = _request(data)
    if request.idempotency_key is not None:
        earlier = await marketplace.earlier(caller, request.idempotency_key)
        if earlier is not None:
            return await _repeated(marketplace, caller, earlier)
    run = await marketplace.run(caller, request)
    headers = {TRANSACTION_HEADER: str(run.transaction_id)}
    if data.stream:
        body = sse.stream(
            run,
            keepalive_seconds=marketplace.settings.keepalive_seconds,
            finished=_done_events,
            failed=_error_events,
        )
        return RunStream(run, body, headers)
    finished = await run.outcome()
    headers[COST_HEADER] = str(finished.cost_microcents)
    transaction = await marketplace.transaction(caller, run.transaction_id)
    return Response(RequestAnswer(transaction, finished.whole()), headers=headers)


async def _repeated(
    marketplace: Marketplace, caller: Network, earlier: TransactionView
) -> Response[RequestAnswer]:
    if earlier.ended_at is None:
        raise Conflict(
            "idempotency_key: the first request under it is still running", field="idempotency_key"
        )
    result: Any = None
    with contextlib.suppress(NotFound):
        result = msgspec.json.decode(await marketplace.result(caller, earlier.transaction_id))
    headers = {
        TRANSACTION_HEADER: str(earlier.transaction_id),
        COST_HEADER: str(earlier.total_microcents),
    }
    return Response(RequestAnswer(earlier, result), headers=headers)


def _done_events(finished: Finished) -> list[bytes]:
    last = {
        "transaction_id": finished.transaction_id,
        "state": finished.state.value,
        "usage": finished.usage(),
        "cost_microcents": finished.cost_microcents,
        "attempts": finished.attempts,
        "latency_ms": finished.latency_ms,
        "result": finished.whole(),
    }
    return [sse.event(msgspec.json.encode(last), "done")]


def _error_events(error: YggdrasilError) -> list[bytes]:
    problem = {"code": error.code, "status": error.status, "title": error.title, "detail": error.detail}
    return [sse.event(msgspec.json.encode(problem), "error")]


@get("/requests/{transaction_id:uuid}")
async def get_request(
    transaction_id: FromPath[UUID], caller: CallerDependency, marketplace: MarketplaceDependency
) -> TransactionView:
    """The state of a request of the caller."""
    return await _requested(marketplace, caller, transaction_id)


@get("/requests/{transaction_id:uuid}/result")
async def get_result(
    transaction_id: FromPath[UUID], caller: CallerDependency, marketplace: MarketplaceDependency
) -> Response[bytes]:
    """The answer of a paid request, for 15 minutes."""
    plain = await marketplace.result(caller, transaction_id)
    return Response(plain, media_type="application/json", headers={"cache-control": "no-store"})


@post("/requests/{transaction_id:uuid}/cancel", status_code=202)
async def cancel_request(
    transaction_id: FromPath[UUID], caller: CallerDependency, marketplace: MarketplaceDependency
) -> TransactionView:
    """Stop a running request: what was delivered is paid for, the rest of the hold is given back."""
    await _requested(marketplace, caller, transaction_id)
    await marketplace.cancel(caller, transaction_id)
    return await marketplace.transaction(caller, transaction_id)


async def _requested(marketplace: Marketplace, caller: Network, transaction_id: UUID) -> TransactionView:
    found = await marketplace.transaction(caller, transaction_id)
    if found.side != "requester":
        raise NotFound
    return found


@get("/transactions")
async def list_transactions(
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
    side: FromQuery[Literal["requester", "provider"] | None] = None,
    limit: FromQuery[int] = LIMIT_DEFAULT,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """The caller's side of what was bought and sold, newest first."""
    return await marketplace.transactions(caller, side=side, limit=limit, cursor=cursor)


@get("/transactions/{transaction_id:uuid}")
async def get_transaction(
    transaction_id: FromPath[UUID], caller: CallerDependency, marketplace: MarketplaceDependency
) -> TransactionView:
    """One transaction of the caller, from his side."""
    return await marketplace.transaction(caller, transaction_id)


router = Router(
    path="/api/v1/marketplace",
    route_handlers=[
        register_provider,
        list_providers,
        get_provider,
        update_provider,
        remove_provider,
        create_request,
        get_request,
        get_result,
        cancel_request,
        list_transactions,
        get_transaction,
    ],
    tags=["marketplace"],
)
