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
from yggdrasil.hangup import noticing_hangups
from yggdrasil.kernel import Network
from yggdrasil.marketplace import sse
from yggdrasil.marketplace.bodies import ChatBody, EmbeddingsBody, Model, chat_request, embeddings_request
from yggdrasil.marketplace.feedback import REASON_LENGTH_MAX, FeedbackView
from yggdrasil.marketplace.hours import WINDOWS_MAX, ZONE_DEFAULT, Window, window
from yggdrasil.marketplace.provider_routes import get_work, list_sharing
from yggdrasil.marketplace.providers import MODELS_MAX, Terms
from yggdrasil.marketplace.requests import ComputeRequest, Status, idempotency_key_from
from yggdrasil.marketplace.run import Finished
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.marketplace.shown import OfferView, ProviderView
from yggdrasil.marketplace.store import TransactionView
from yggdrasil.marketplace.streaming import RunStream
from yggdrasil.marketplace.wishes import WishFields, wishes_of
from yggdrasil.users.roles import Action

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
    output_tokens_max: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    capacity_jobs: Annotated[int, Meta(ge=1, le=1024)] | None = None
    supported_parameters: Annotated[list[str], Meta(max_length=64)] = []


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class OpenHours(msgspec.Struct, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """A time of day on some weekdays; one that ends before it starts goes on into the next day."""

    days: Annotated[list[Day], Meta(min_length=1, max_length=7)]
    start: Annotated[str, Meta(min_length=5, max_length=5)]
    end: Annotated[str, Meta(min_length=5, max_length=5)]


class RegisterProvider(msgspec.Struct, forbid_unknown_fields=True):
    """A device of the caller that will serve others."""

    device_id: Annotated[str, Meta(min_length=1, max_length=64)]
    models: Annotated[list[ModelTerms], Meta(min_length=1, max_length=MODELS_MAX)]
    audience: Audience = "market"
    capacity_jobs: Annotated[int, Meta(ge=1, le=1024)] = 1
    hours: Annotated[list[OpenHours], Meta(max_length=WINDOWS_MAX)] = []
    zone: Annotated[str, Meta(min_length=1, max_length=64)] = ZONE_DEFAULT


class UpdateProvider(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out stays. Empty `hours`: always. Draining and paused take no new work and cost no
    reputation; `jobs_running` says when a draining device is done."""

    audience: Audience | None = None
    status: Status | None = None
    capacity_jobs: Annotated[int, Meta(ge=1, le=1024)] | None = None
    hours: Annotated[list[OpenHours], Meta(max_length=WINDOWS_MAX)] | None = None
    zone: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    models: Annotated[list[ModelTerms], Meta(min_length=1, max_length=MODELS_MAX)] | None = None


class NewRequest(WishFields, kw_only=True):
    """A compute request: the OpenAI body in `request`, the wishes beside it."""

    kind: Literal["chat", "embeddings"]
    request: dict[str, Any]
    stream: bool = False
    idempotency_key: str | None = None


class NewFeedback(msgspec.Struct, forbid_unknown_fields=True):
    """How good an answer was, from 0 to 1."""

    score: Annotated[float, Meta(ge=0, le=1)]
    reason: Annotated[str, Meta(min_length=1, max_length=REASON_LENGTH_MAX)] | None = None


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
            output_tokens_max=asked.output_tokens_max,
            capacity_jobs=asked.capacity_jobs,
            parameters=tuple(asked.supported_parameters),
        )
        for asked in models
    ]


def _windows(hours: list[OpenHours]) -> tuple[Window, ...]:
    return tuple(window(one.days, one.start, one.end) for one in hours)


def _request(data: NewRequest) -> ComputeRequest:
    wishes = wishes_of(data)
    key = idempotency_key_from(data.idempotency_key)
    try:
        if data.kind == "chat":
            body = msgspec.convert(data.request, ChatBody)
            return chat_request(body, wishes, key, whole=not data.stream)
        return embeddings_request(msgspec.convert(data.request, EmbeddingsBody), wishes, key)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"request: {error}", field="request") from None


@post("/providers/register", action=Action.SELL)
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
        hours=_windows(data.hours),
        zone=data.zone,
    )


@get("/providers", action=Action.COMPUTE)
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


@get("/providers/{provider_id:str}", action=Action.COMPUTE)
async def get_provider(
    provider_id: FromPath[str], caller: CallerDependency, marketplace: MarketplaceDependency
) -> ProviderView | OfferView:
    """A provider of one's own network by its id, or an offer by its pseudonym."""
    return await marketplace.provider(caller, provider_id)


@put("/providers/{provider_id:str}", action=Action.SELL)
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
        hours=_windows(data.hours) if data.hours is not None else None,
        zone=data.zone,
    )


@delete("/providers/{provider_id:str}", action=Action.SELL)
async def remove_provider(
    provider_id: FromPath[str], caller: CallerDependency, marketplace: MarketplaceDependency
) -> None:
    """Unregister a provider: its offers end at once."""
    await marketplace.remove_provider(caller, provider_id)


@post("/requests", action=Action.COMPUTE, middleware=[noticing_hangups])
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
            marks_named=True,
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
        **finished.told(),
        "result": finished.whole(),
    }
    return [sse.event(msgspec.json.encode(last), "done")]


def _error_events(error: YggdrasilError) -> list[bytes]:
    problem = {"code": error.code, "status": error.status, "title": error.title, "detail": error.detail}
    return [sse.event(msgspec.json.encode(problem), "error")]


@get("/requests/{transaction_id:uuid}", action=Action.OWN_TRADES)
async def get_request(
    transaction_id: FromPath[UUID], caller: CallerDependency, marketplace: MarketplaceDependency
) -> TransactionView:
    """The state of a request of the caller."""
    return await _requested(marketplace, caller, transaction_id)


@get("/requests/{transaction_id:uuid}/result", action=Action.OWN_TRADES)
async def get_result(
    transaction_id: FromPath[UUID], caller: CallerDependency, marketplace: MarketplaceDependency
) -> Response[bytes]:
    """The answer of a paid request, for 15 minutes."""
    plain = await marketplace.result(caller, transaction_id)
    return Response(plain, media_type="application/json", headers={"cache-control": "no-store"})


@post("/requests/{transaction_id:uuid}/cancel", action=Action.OWN_TRADES, status_code=202)
async def cancel_request(
    transaction_id: FromPath[UUID], caller: CallerDependency, marketplace: MarketplaceDependency
) -> TransactionView:
    """Stop a running request: what was delivered is paid for, the rest of the hold is given back."""
    await _requested(marketplace, caller, transaction_id)
    await marketplace.cancel(caller, transaction_id)
    return await marketplace.transaction(caller, transaction_id)


@post("/requests/{transaction_id:uuid}/feedback", action=Action.OWN_TRADES)
async def give_feedback(
    transaction_id: FromPath[UUID],
    data: JSONBody[NewFeedback],
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
) -> FeedbackView:
    """Say how good a paid answer was: once for each request, within a day. It feeds the offer's quality."""
    return await marketplace.feedback.give(caller, transaction_id, data.score, data.reason)


async def _requested(marketplace: Marketplace, caller: Network, transaction_id: UUID) -> TransactionView:
    found = await marketplace.transaction(caller, transaction_id)
    if found.side != "requester":
        raise NotFound
    return found


@get("/transactions", action=Action.OWN_TRADES)
async def list_transactions(
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
    side: FromQuery[Literal["requester", "provider"] | None] = None,
    limit: FromQuery[int] = LIMIT_DEFAULT,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """The caller's side of what was bought and sold, newest first."""
    return await marketplace.transactions(caller, side=side, limit=limit, cursor=cursor)


@get("/transactions/{transaction_id:uuid}", action=Action.OWN_TRADES)
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
        get_work,
        list_sharing,
        create_request,
        get_request,
        get_result,
        cancel_request,
        give_feedback,
        list_transactions,
        get_transaction,
    ],
    tags=["marketplace"],
)
