"""The edge of the OpenAI-compatible API."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, SkipValidation

from yggdrasil import heidrun
from yggdrasil.edge import ANY_QUERY
from yggdrasil.errors import InvalidInput, NotFound, YggdrasilError
from yggdrasil.hangup import noticing_hangups
from yggdrasil.kernel import Network
from yggdrasil.marketplace import sse
from yggdrasil.marketplace.bodies import chat_request, embeddings_request
from yggdrasil.marketplace.requests import idempotency_key_from
from yggdrasil.marketplace.run import Finished, Run
from yggdrasil.marketplace.service import Marketplace, ModelView
from yggdrasil.marketplace.streaming import RunStream
from yggdrasil.openai import shapes
from yggdrasil.openai.response_events import ResponseStream
from yggdrasil.openai.responses import CreateResponse, chat_of
from yggdrasil.openai.shapes import ChatCompletion, Embeddings
from yggdrasil.users.roles import Action

TRANSACTION_HEADER = "x-yggdrasil-transaction"
COST_HEADER = "x-yggdrasil-cost-microcents"

MarketplaceDependency = NamedDependency[SkipValidation[Marketplace]]
CallerDependency = NamedDependency[SkipValidation[Network]]
AnyRequest = Request[Any, Any, Any]


@get("/models", action=Action.COMPUTE)
async def list_models(caller: CallerDependency, marketplace: MarketplaceDependency) -> dict[str, Any]:
    """Models that somebody online offers to the caller."""
    return {"object": "list", "data": [_model(view) for view in _merged(marketplace.models(caller))]}


@get("/models/{model:path}", action=Action.COMPUTE)
async def get_model(
    model: FromPath[str], caller: CallerDependency, marketplace: MarketplaceDependency
) -> dict[str, Any]:
    """One of them."""
    name = str(model).removeprefix("/")
    for view in _merged(marketplace.models(caller)):
        if view.model == name:
            return _model(view)
    raise NotFound("No offer that you can reach has this model")


def _merged(views: list[ModelView]) -> list[ModelView]:
    """One entry for each name, whatever it can do."""
    return list({view.model: view for view in views}.values())


def _model(view: ModelView) -> dict[str, Any]:
    return {
        "id": view.model,
        "object": "model",
        "created": 0,
        "owned_by": "yggdrasil",
        "supported_parameters": view.supported_parameters,
        "yggdrasil": {"kind": view.kind, "scopes": view.scopes},
    }


@post("/chat/completions", action=Action.COMPUTE, status_code=200, middleware=[noticing_hangups])
async def create_chat_completion(
    request: AnyRequest,
    data: JSONBody[ChatCompletion],
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
) -> Response[dict[str, Any]] | RunStream:
    """A chat completion, whole or as a stream."""
    run = await begin_chat(marketplace, caller, data, request.headers)
    if not data.stream:
        return _whole(await run.outcome())
    headers = {TRANSACTION_HEADER: str(run.transaction_id)}
    include_usage = data.stream_options is not None and data.stream_options.include_usage

    def finished(last: Finished) -> list[bytes]:
        events = []
        if include_usage:
            head = {name: last.answer[name] for name in ("id", "created", "model")}
            chunk = {
                **head,
                "object": "chat.completion.chunk",
                "choices": [],
                "usage": last.usage(),
                "yggdrasil": _extra(last),
            }
            events.append(sse.event(msgspec.json.encode(chunk)))
        else:
            # The cost is known after the headers, and clients that did not ask for usage know no such chunk.
            events.append(b": yggdrasil " + msgspec.json.encode(_extra(last)) + b"\n\n")
        return [*events, sse.event(b"[DONE]")]

    def failed(error: YggdrasilError) -> list[bytes]:
        return [sse.event(msgspec.json.encode(shapes.error_body(error)))]

    body = sse.stream(
        run, keepalive_seconds=marketplace.settings.keepalive_seconds, finished=finished, failed=failed
    )
    return RunStream(run, body, headers)


async def begin_chat(
    marketplace: Marketplace, caller: Network, data: ChatCompletion, headers: Mapping[str, str]
) -> Run:
    """Admit a chat completion; see `Marketplace.run`."""
    if data.stream_options is not None and not data.stream:
        raise InvalidInput("stream_options: needs stream true", field="stream_options")
    wishes = shapes.wishes(data.yggdrasil, headers, data.provider)
    key = idempotency_key_from(shapes.idempotency_key(data.yggdrasil, headers))
    return await marketplace.run(
        caller, chat_request(shapes.plain_chat(data), wishes, key, whole=not data.stream)
    )


@post("/responses", action=Action.COMPUTE, status_code=200, middleware=[noticing_hangups])
async def create_response(
    request: AnyRequest,
    data: JSONBody[CreateResponse],
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
) -> Response[dict[str, Any]] | RunStream:
    """A response, whole or as a stream of events. Nothing is kept: the conversation travels in `input`."""
    asked = chat_of(data)
    wishes = shapes.wishes(data.yggdrasil, request.headers, data.provider)
    if data.stream and wishes.on_break == "restart":
        raise InvalidInput(
            "on_break: restart cannot be told in a stream of these events; ask for resume or fail",
            field="on_break",
        )
    key = idempotency_key_from(shapes.idempotency_key(data.yggdrasil, request.headers))
    run = await marketplace.run(caller, chat_request(asked, wishes, key, whole=not data.stream))
    headers = {TRANSACTION_HEADER: str(run.transaction_id)}
    answer = ResponseStream(
        data, run.transaction_id, int(run.created_at.timestamp()), partial(heidrun.count, data.model)
    )
    if not data.stream:
        last = await run.outcome()
        headers[COST_HEADER] = str(last.cost_microcents)
        return Response(answer.whole(last), headers=headers, status_code=200)
    body = sse.stream(
        run,
        keepalive_seconds=marketplace.settings.keepalive_seconds,
        opening=answer.opening(),
        passed=answer.take,
        finished=answer.finished,
        failed=answer.failed,
    )
    return RunStream(run, body, headers)


@post("/embeddings", action=Action.COMPUTE, status_code=200, middleware=[noticing_hangups])
async def create_embeddings(
    request: AnyRequest,
    data: JSONBody[Embeddings],
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
) -> Response[dict[str, Any]]:
    """Vectors of one text or several."""
    wishes = shapes.wishes(data.yggdrasil, request.headers, data.provider)
    key = idempotency_key_from(shapes.idempotency_key(data.yggdrasil, request.headers))
    run = await marketplace.run(caller, embeddings_request(shapes.plain_embeddings(data), wishes, key))
    response = _whole(await run.outcome())
    if data.encoding_format == "base64":
        response.content = shapes.with_base64(response.content)
    return response


def whole(last: Finished) -> dict[str, Any]:
    """The body of an answer that is no stream."""
    return {**last.whole(), "yggdrasil": _extra(last)}


def headers_of(last: Finished) -> dict[str, str]:
    """What it says beside its body."""
    return {TRANSACTION_HEADER: str(last.transaction_id), COST_HEADER: str(last.cost_microcents)}


def _whole(last: Finished) -> Response[dict[str, Any]]:
    return Response(whole(last), headers=headers_of(last), status_code=200)


def _extra(last: Finished) -> dict[str, Any]:
    return {
        "transaction_id": str(last.transaction_id),
        "state": last.state.value,
        "cost_microcents": last.cost_microcents,
        **last.told(),
    }


router = Router(
    path="/v1",
    route_handlers=[list_models, get_model, create_chat_completion, create_response, create_embeddings],
    tags=["openai"],
    opt={ANY_QUERY: True},
)
