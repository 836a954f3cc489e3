"""The bodies of the OpenAI API that this server takes: which fields pass to a provider, and what is paid for.

Every field is known by name; an unknown one is refused, never dropped. What names the requester (`user`,
`metadata`, `safety_identifier`, `prompt_cache_key`) or how this server is to serve him (`service_tier`) is
taken and goes no further. The list is in `docs/protocol/openai.md`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yggdrasil.errors import InvalidInput
from yggdrasil.marketplace.answers import CHOICES_MAX
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
    """One message of a chat. An answer can be sent back as it came: what a model thought in it is not told to
    the next one, and what stands there empty says nothing."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart], Meta(max_length=256)] | None = None
    name: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    refusal: str | UnsetType | None = UNSET
    tool_calls: Annotated[list[dict[str, Any]], Meta(max_length=128)] | UnsetType | None = UNSET
    tool_call_id: Annotated[str, Meta(max_length=128)] | UnsetType = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    annotations: Annotated[list[Any], Meta(max_length=0)] | UnsetType | None = UNSET
    audio: UnsetType | None = UNSET
    function_call: UnsetType | None = UNSET


SchemaName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]


class FunctionSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A function that the model may call."""

    name: SchemaName
    description: str | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """A tool: functions alone, which the requester runs himself."""

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(msgspec.Struct, forbid_unknown_fields=True):
    """The name in a `tool_choice`."""

    name: SchemaName


class ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The one tool that is to be called."""

    type: Literal["function"]
    function: NamedFunction


class SchemaSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The JSON schema that an answer is to follow."""

    name: SchemaName
    description: str | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What an answer is to be: `json_schema` is given if and only if the type is so called."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaSpec | UnsetType = UNSET


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
    n: Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Annotated[str, Meta(max_length=16)] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: Annotated[list[Literal["text"]], Meta(min_length=1, max_length=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    service_tier: Literal["auto", "default"] | None = None
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
        "service_tier",
        "modalities",
        "max_tokens",
        "max_completion_tokens",
        "model",
    }
)

_UNTOLD: Final = ("reasoning_content", "annotations", "audio", "function_call")


def chat_request(
    body: ChatBody, wishes: Wishes, idempotency_key: str | None = None, *, whole: bool = False
) -> ComputeRequest:
    """The request behind a chat body; `whole` if its answer is read in one piece. Raises InvalidInput."""
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidInput("max_tokens: must not stand beside max_completion_tokens", field="max_tokens")
    form = body.response_format
    if form is not None and (form.type == "json_schema") != isinstance(form.json_schema, SchemaSpec):
        raise InvalidInput(
            "response_format.json_schema: belongs to the type json_schema, and to no other",
            field="response_format.json_schema",
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidInput("top_logprobs: needs logprobs true", field="top_logprobs")
    if body.tools is None and (body.tool_choice is not None or body.parallel_tool_calls is not None):
        name = "tool_choice" if body.tool_choice is not None else "parallel_tool_calls"
        raise InvalidInput(f"{name}: needs tools", field=name)
    prompt: list[str] = []
    for message in body.messages:
        prompt.extend(_texts_of(message))
    # The schema of tools and of the answer is prompt too: the provider's template writes it out.
    prompt.extend(
        msgspec.json.encode(extra).decode() for extra in (body.tools, body.response_format) if extra
    )
    passed = {key: value for key, value in msgspec.to_builtins(body).items() if key not in _PRIVATE}
    for said in passed["messages"]:
        for name in _UNTOLD:
            said.pop(name, None)
        if said.get("tool_calls", ()) is None:
            del said["tool_calls"]
    return ComputeRequest(
        kind="chat",
        model=body.model,
        body=_bounded(passed),
        prompt=tuple(prompt),
        overhead_tokens=MESSAGE_TOKENS * len(body.messages) + ANSWER_TOKENS,
        output_tokens_max=body.max_completion_tokens or body.max_tokens,
        choices=body.n or 1,
        wishes=wishes,
        idempotency_key=idempotency_key,
        conversation=wishes.conversation or body.prompt_cache_key or body.user,
        whole=whole,
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
        conversation=wishes.conversation,
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
