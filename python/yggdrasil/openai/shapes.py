"""The shapes of the OpenAI API that are not the marketplace's own: requests with wishes, errors, models. No
I/O."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from yggdrasil.errors import InvalidInput, YggdrasilError
from yggdrasil.marketplace.bodies import ChatBody, EmbeddingsBody, StreamOptions
from yggdrasil.marketplace.wishes import Wishes, WishFields, wishes_of

HEADER_PREFIX: Final = "x-yggdrasil-"
_WHOLE: Final = (
    "max_cost",
    "max_cost_cents",
    "max_cost_microcents",
    "max_price",
    "max_price_cents",
    "preferred_min_throughput",
    "deadline_seconds",
    "queue_seconds",
)
_HEADERS: Final = [(name, HEADER_PREFIX + name.replace("_", "-")) for name in WishFields.__struct_fields__]
_TRUTHS: Final = ("allow_fallbacks", "require_parameters")


class YggdrasilFields(WishFields, kw_only=True):
    """The extra body field `yggdrasil`: what the OpenAI API has no words for."""

    idempotency_key: Annotated[str, Meta(max_length=128)] | None = None


class ChatCompletion(ChatBody, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: Literal[False] | None = None
    provider: WishFields | None = None
    yggdrasil: YggdrasilFields | None = None


class Embeddings(EmbeddingsBody, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`POST /v1/embeddings`."""

    encoding_format: Literal["float", "base64"] | None = None
    provider: WishFields | None = None
    yggdrasil: YggdrasilFields | None = None


def wishes(
    fields: YggdrasilFields | None, headers: Mapping[str, str], provider: WishFields | None = None
) -> Wishes:
    """From the body's `yggdrasil` and `provider` (OpenRouter's place for them); what is in neither, from
    headers such as `x-yggdrasil-scope`."""
    other: dict[str, Any] = {}
    for name, header in _HEADERS:
        text = headers.get(header)
        if text is None:
            continue
        if name in _WHOLE:
            if not (text.isascii() and text.isdigit() and len(text) <= 19):
                raise InvalidInput(f"{name}: must be a whole number", field=name)
            other[name] = int(text)
        elif name in _TRUTHS:
            if text not in ("true", "false"):
                raise InvalidInput(f"{name}: must be true or false", field=name)
            other[name] = text == "true"
        elif name in ("order", "only", "ignore"):
            other[name] = [part.strip() for part in text.split(",") if part.strip()]
        else:
            other[name] = text
    return wishes_of(provider, fields, other=other)


def idempotency_key(fields: YggdrasilFields | None, headers: Mapping[str, str]) -> str | None:
    if fields is not None and fields.idempotency_key is not None:
        return fields.idempotency_key
    return headers.get("idempotency-key")


def plain_chat(data: ChatCompletion) -> ChatBody:
    """The body without what this edge answers itself."""
    return ChatBody(**{name: getattr(data, name) for name in ChatBody.__struct_fields__})


def plain_embeddings(data: Embeddings) -> EmbeddingsBody:
    """The body without what this edge answers itself."""
    return EmbeddingsBody(**{name: getattr(data, name) for name in EmbeddingsBody.__struct_fields__})


def with_base64(answer: dict[str, Any]) -> dict[str, Any]:
    """The vectors as little-endian 32-bit floats in base64, as OpenAI's clients ask for them."""
    data = []
    for item in answer["data"]:
        vector = item["embedding"]
        try:
            packed = struct.pack(f"<{len(vector)}f", *vector)
        except OverflowError:
            raise InvalidInput(
                "encoding_format: a value does not fit 32 bits; ask for float", field="encoding_format"
            ) from None
        data.append({**item, "embedding": base64.b64encode(packed).decode()})
    return {**answer, "data": data}


def error_body(error: YggdrasilError) -> dict[str, Any]:
    """The error object of the OpenAI API; `code` is ours."""
    kind = "invalid_request_error"
    if error.status == 401:
        kind = "authentication_error"
    elif error.status == 402:
        kind = "insufficient_quota"
    elif error.status == 403:
        kind = "permission_error"
    elif error.status == 429:
        kind = "rate_limit_error"
    elif error.status >= 500:
        kind = "api_error"
    detail = error.title if error.code == "internal" else error.detail
    return {"error": {"message": detail, "type": kind, "param": error.field, "code": error.code}}
