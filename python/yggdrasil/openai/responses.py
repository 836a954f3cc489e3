"""`POST /v1/responses` for text: its body, and the chat request behind it. No I/O.

Nothing is kept here: a conversation travels whole in `input`, and what would need an earlier answer is
refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from yggdrasil.errors import InvalidInput
from yggdrasil.marketplace.bodies import (
    MESSAGES_MAX,
    ChatBody,
    FunctionSpec,
    Message,
    Model,
    NamedFunction,
    OutputTokens,
    ResponseFormat,
    SchemaName,
    SchemaSpec,
    TextPart,
    Tool,
    ToolChoice,
)
from yggdrasil.marketplace.wishes import WishFields
from yggdrasil.openai.shapes import YggdrasilFields

LOGPROBS: Final = "message.output_text.logprobs"

Id = Annotated[str, Meta(max_length=128)]
Status = Literal["in_progress", "completed", "incomplete"]


class InputText(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="input_text"):
    """Text of the requester."""

    text: str


class OutputText(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="output_text"):
    """Text of an earlier answer, as it came; its marks tell the model nothing."""

    text: str
    annotations: list[Any] = []
    logprobs: list[Any] | None = None


class RefusalText(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="refusal"):
    """The refusal in an earlier answer."""

    refusal: str


class ReasoningText(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="reasoning_text"):
    """What a model thought in an earlier answer."""

    text: str


Part = InputText | OutputText | RefusalText | ReasoningText


class InputItem(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One item of a conversation. Which fields belong to which type is in `_FIELDS`."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    id: Id | UnsetType | None = UNSET
    status: Status | UnsetType | None = UNSET
    role: Literal["user", "assistant", "system", "developer"] | UnsetType = UNSET
    content: str | Annotated[list[Part], Meta(max_length=256)] | UnsetType | None = UNSET
    phase: Literal["commentary", "final_answer"] | UnsetType | None = UNSET
    call_id: Id | UnsetType = UNSET
    name: SchemaName | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    output: str | Annotated[list[InputText], Meta(max_length=256)] | UnsetType = UNSET
    summary: Annotated[list[dict[str, Any]], Meta(max_length=256)] | UnsetType = UNSET
    encrypted_content: str | UnsetType | None = UNSET


_FIELDS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "message": (frozenset({"role", "content"}), frozenset({"phase"})),
    "function_call": (frozenset({"call_id", "name", "arguments"}), frozenset()),
    "function_call_output": (frozenset({"call_id", "output"}), frozenset()),
    "reasoning": (frozenset(), frozenset({"summary", "content", "encrypted_content"})),
}
"""Type of an item → the fields it must have, and those it may have besides `id` and `status`."""


class FunctionTool(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A function that the model may call: flat, where the chat API nests it."""

    type: Literal["function"]
    name: SchemaName
    description: str | UnsetType | None = UNSET
    parameters: dict[str, Any] | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


class FunctionChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The one function that is to be called."""

    type: Literal["function"]
    name: SchemaName


class TextFormat(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What an answer is to be: flat, where the chat API nests it."""

    type: Literal["text", "json_object", "json_schema"]
    name: SchemaName | UnsetType = UNSET
    description: str | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class TextConfig(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How the text of an answer is to be."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How long a model may think."""

    effort: Annotated[str, Meta(max_length=16)] | None = None


class ResponseStreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Streams are not padded here."""

    include_obfuscation: Literal[False] = False


class CreateResponse(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`POST /v1/responses`."""

    model: Model
    input: str | Annotated[list[InputItem], Meta(min_length=1, max_length=MESSAGES_MAX)]
    instructions: str | None = None
    max_output_tokens: OutputTokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Meta(max_length=8)] | None = None
    truncation: Literal["disabled"] | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: Annotated[str, Meta(max_length=512)] | None = None
    prompt_cache_key: Annotated[str, Meta(max_length=512)] | None = None
    service_tier: Literal["auto", "default"] | None = None
    provider: WishFields | None = None
    yggdrasil: YggdrasilFields | None = None


def chat_of(data: CreateResponse) -> ChatBody:
    """The chat body that asks a provider for this response. Raises InvalidInput."""
    if data.store:
        raise InvalidInput("store: answers are not kept here; send false, or leave it out", field="store")
    if data.background:
        raise InvalidInput("background: must be false: an answer is not kept for later", field="background")
    if data.previous_response_id is not None:
        raise InvalidInput(
            "previous_response_id: answers are not kept here; send the conversation as input",
            field="previous_response_id",
        )
    if data.stream_options is not None and not data.stream:
        raise InvalidInput("stream_options: needs stream true", field="stream_options")
    likely = data.top_logprobs is not None or LOGPROBS in (data.include or ())
    tools = [_tool(tool) for tool in data.tools or ()]
    text = data.text or TextConfig()
    return ChatBody(
        model=data.model,
        messages=_messages(data),
        max_completion_tokens=data.max_output_tokens,
        temperature=data.temperature,
        top_p=data.top_p,
        logprobs=True if likely else None,
        top_logprobs=data.top_logprobs,
        response_format=_format(text.format) if text.format is not None else None,
        tools=tools or None,
        # Without tools there is nothing to choose: clients send the defaults all the same.
        tool_choice=_choice(data.tool_choice) if tools else None,
        parallel_tool_calls=data.parallel_tool_calls if tools else None,
        reasoning_effort=data.reasoning.effort if data.reasoning is not None else None,
        verbosity=text.verbosity,
    )


def _messages(data: CreateResponse) -> list[Message]:
    messages: list[Message] = []
    if data.instructions is not None:
        messages.append(Message("system", data.instructions))
    if isinstance(data.input, str):
        return [*messages, Message("user", data.input)]
    for index, item in enumerate(data.input):
        _check_fields(item, index)
        if item.type == "message":
            messages.append(_message(item, index))
        elif item.type == "function_call":
            call = {
                "id": item.call_id,
                "type": "function",
                "function": {"name": item.name, "arguments": item.arguments},
            }
            last = messages[-1] if messages else None
            if last is not None and last.role == "assistant" and isinstance(last.tool_calls, list):
                last.tool_calls.append(call)
            elif last is not None and last.role == "assistant":
                last.tool_calls = [call]
            else:
                messages.append(Message("assistant", tool_calls=[call]))
        elif item.type == "function_call_output":
            output = item.output if isinstance(item.output, str) else _texts(cast(list[Part], item.output))
            messages.append(Message("tool", output, tool_call_id=item.call_id))
        # What a model thought is not told to the next one: the chat API has no place for it.
    if not any(message.role != "system" for message in messages):
        raise InvalidInput("input: must hold something to answer", field="input")
    return messages


def _check_fields(item: InputItem, index: int) -> None:
    needed, allowed = _FIELDS[item.type]
    for name in InputItem.__struct_fields__:
        given = getattr(item, name) is not UNSET
        if name in needed and (not given or getattr(item, name) is None):
            raise InvalidInput(f"input[{index}].{name}: must be given", field=f"input[{index}].{name}")
        if given and name not in needed | allowed | {"type", "id", "status"}:
            raise InvalidInput(
                f"input[{index}].{name}: does not belong to the type {item.type}",
                field=f"input[{index}].{name}",
            )


def _message(item: InputItem, index: int) -> Message:
    role = cast(Literal["user", "assistant", "system", "developer"], item.role)
    if isinstance(item.content, str):
        return Message(role, item.content)
    parts = cast(list[Part], item.content)
    mine, theirs = (RefusalText, OutputText) if role == "assistant" else (InputText, InputText)
    if not all(isinstance(part, mine | theirs) for part in parts):
        field = f"input[{index}].content"
        raise InvalidInput(f"{field}: a part does not fit the role {role}", field=field)
    refusals = [part.refusal for part in parts if isinstance(part, RefusalText)]
    message = Message(role, _texts(parts))
    if refusals:
        message.refusal = "".join(refusals)
    return message


def _texts(parts: list[Part]) -> list[TextPart]:
    return [TextPart(part.text) for part in parts if not isinstance(part, RefusalText)]


def _tool(tool: FunctionTool) -> Tool:
    function = FunctionSpec(tool.name, strict=tool.strict)
    if isinstance(tool.description, str):
        function.description = tool.description
    if isinstance(tool.parameters, dict):
        function.parameters = tool.parameters
    return Tool("function", function)


def _choice(
    choice: Literal["none", "auto", "required"] | FunctionChoice | None,
) -> Literal["none", "auto", "required"] | ToolChoice | None:
    if isinstance(choice, FunctionChoice):
        return ToolChoice("function", NamedFunction(choice.name))
    return choice


def _format(form: TextFormat) -> ResponseFormat | None:
    if form.type != "json_schema":
        for name in ("name", "description", "schema", "strict"):
            if getattr(form, name) is not UNSET:
                raise InvalidInput(
                    f"text.format.{name}: belongs to the type json_schema", field=f"text.format.{name}"
                )
        return ResponseFormat(form.type) if form.type == "json_object" else None
    for name in ("name", "schema"):
        if getattr(form, name) is UNSET:
            raise InvalidInput(f"text.format.{name}: must be given", field=f"text.format.{name}")
    spec = SchemaSpec(cast(str, form.name), form.description, form.schema, form.strict)
    return ResponseFormat("json_schema", spec)
