"""The bodies of the OpenAI API that this server takes: which fields pass to a provider, and what is paid for.

Every field is known by name; an unknown one is refused, never dropped. What names the requester (`user`,
`metadata`, `safety_identifier`, `prompt_cache_key`) is taken and goes no further than this server.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yggdrasil.errors import InvalidInput
from yggdrasil.marketplace.requests import MODEL_LENGTH_MAX, OUTPUT_TOKENS_MAX, ComputeRequest, Wishes

MESSAGES_MAX: Final = 2_048
INPUTS_MAX: Final = 2_048
BODY_BYTES_MAX: Final = 4 * 1024 * 1024

# What the chat format adds around each message and before the answer, as OpenAI's own counting recipe has it.
MESSAGE_TOKENS: Final = 3
ANSWER_TOKENS: Final = 3

Model = Annotated[str, Meta(min_length=1, max_length=MODEL_LENGTH_MAX, pattern=r"^[\x21-\x7e]+\Z")]
OutputTokens = Annotated[int, Meta(ge=1, le=OUTPUT_TOKENS_MAX)]


class TextPart(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """A part of a message: text is the only kind whose tokens can be counted before they are paid for."""

    text: str


class Message(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], Meta(max_length=256)] | None = None
    name: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    refusal: str | UnsetType | None = UNSET
    tool_calls: Annotated[list[dict[str, Any]], Meta(max_length=128)] | UnsetType = UNSET
    tool_call_id: Annotated[str, Meta(max_length=128)] | UnsetType = UNSET


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """What the last chunks of a stream carry."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`POST /v1/chat/completions`, less what belongs to this server's own answer."""

    model: Model
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MESSAGES_MAX)]
    max_tokens: OutputTokens | None = None
    max_completion_tokens: OutputTokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Annotated[str, Meta(max_length=16)] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=512)] | None = None


class EmbeddingsBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`POST /v1/embeddings`, less the encoding of the answer."""

    model: Model
    input: str | Annotated[list[str], Meta(min_length=1, max_length=INPUTS_MAX)]
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None


_PRIVATE: Final = frozenset(
    {
        "user",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
        "max_tokens",
        "max_completion_tokens",
        "model",
    }
)


def chat_request(body: ChatBody, wishes: Wishes, idempotency_key: str | None = None) -> ComputeRequest:
    """The request behind a chat body. Raises InvalidInput."""
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidInput("max_tokens: must not stand beside max_completion_tokens", field="max_tokens")
    prompt: list[str] = []
    for message in body.messages:
        prompt.extend(_texts_of(message))
    # The schema of tools and of the answer is prompt too: the provider's template writes it out.
    prompt.extend(
        msgspec.json.encode(extra).decode() for extra in (body.tools, body.response_format) if extra
    )
    passed = {key: value for key, value in msgspec.to_builtins(body).items() if key not in _PRIVATE}
    return ComputeRequest(
        kind="chat",
        model=body.model,
        body=_bounded(passed),
        prompt=tuple(prompt),
        overhead_tokens=MESSAGE_TOKENS * len(body.messages) + ANSWER_TOKENS,
        output_tokens_max=body.max_completion_tokens or body.max_tokens,
        wishes=wishes,
        idempotency_key=idempotency_key,
    )


def embeddings_request(
    body: EmbeddingsBody, wishes: Wishes, idempotency_key: str | None = None
) -> ComputeRequest:
    """The request behind an embeddings body. Raises InvalidInput."""
    inputs = [body.input] if isinstance(body.input, str) else body.input
    if not all(inputs):
        raise InvalidInput("input: must not hold an empty text", field="input")
    passed = {"input": inputs, "encoding_format": "float"}
    if body.dimensions is not None:
        passed["dimensions"] = body.dimensions  # type: ignore[assignment]
    return ComputeRequest(
        kind="embeddings",
        model=body.model,
        body=_bounded(passed),
        prompt=tuple(inputs),
        inputs=len(inputs),
        wishes=wishes,
        idempotency_key=idempotency_key,
    )


def _texts_of(message: Message) -> list[str]:
    texts: list[str] = [message.role]
    if isinstance(message.content, str):
        texts.append(message.content)
    elif message.content is not None:
        texts.extend(part.text for part in message.content)
    if isinstance(message.name, str):
        texts.append(message.name)
    if isinstance(message.tool_calls, list):
        texts.append(msgspec.json.encode(message.tool_calls).decode())
    return texts


def _bounded(body: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(msgspec.json.encode(body))
    except (OverflowError, ValueError):
        raise InvalidInput("numbers must fit 64 bits") from None
    if size > BODY_BYTES_MAX:
        raise InvalidInput(f"body: must be at most {BODY_BYTES_MAX} bytes of JSON", field="body")
    return body
