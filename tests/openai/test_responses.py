"""`/v1/responses` for text, as OpenAI's own client sends and reads it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

import openai
from tests.marketplace import world as scripts
from tests.marketplace.world import MODEL, World
from tests.openai import scripted
from tests.openai.conftest import client_for

TOOL: Any = {
    "type": "function",
    "name": "look",
    "description": "a tool",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    "strict": True,
}


async def streamed(client: openai.AsyncOpenAI, **asked: Any) -> list[Any]:
    return [event async for event in await client.responses.create(model=MODEL, stream=True, **asked)]


async def test_text_whole(world: World, http: httpx.AsyncClient) -> None:
    seller = await world.seller()
    client = client_for(world, http, await world.buyer())
    raw = await client.responses.with_raw_response.create(
        model=MODEL,
        input="Say some words.",
        instructions="Be short.",
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        store=False,
        metadata={"mine": "only"},
        user="alice",
    )
    made = raw.parse()
    assert made.output_text == " word" * 5
    assert made.status == "completed"
    assert made.id.startswith("resp_")
    assert made.output[0].id.startswith("msg_")
    assert (made.instructions, made.temperature, made.max_output_tokens) == ("Be short.", 0.5, 50)
    assert made.metadata == {"mine": "only"}
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens > 0
    extra = made.yggdrasil  # type: ignore[attr-defined]
    assert extra["cost_microcents"] == (await world.no_holds()).cost_microcents > 0
    assert raw.headers["x-yggdrasil-transaction"] == extra["transaction_id"]
    assert raw.headers["x-yggdrasil-cost-microcents"] == str(extra["cost_microcents"])
    sent = json.loads(seller.jobs[0].body)
    assert sent["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Say some words."},
    ]
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"]) == (50, 0.5, 0.9)
    assert "alice" not in seller.jobs[0].body.decode()


async def test_text_as_a_stream_of_events(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    client = client_for(world, http, await world.buyer())
    events = await streamed(client, input=[{"role": "user", "content": "Say some words."}])
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 5,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].response.status == "in_progress"
    assert events[0].response.output == []
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == " word" * 5 == events[-1].response.output_text
    items = {event.item_id for event in events if hasattr(event, "item_id")}
    assert items == {events[-1].response.output[0].id}
    assert {event.response.id for event in events if hasattr(event, "response")} == {events[0].response.id}
    assert events[-1].response.usage.output_tokens == 5
    assert events[-1].response.yggdrasil["cost_microcents"] == (await world.no_holds()).cost_microcents > 0


async def test_the_sdks_own_assembly_agrees(world: World, http: httpx.AsyncClient) -> None:
    await world.seller(behaviour=scripted.two_calls)
    client = client_for(world, http, await world.buyer())
    async with client.responses.stream(model=MODEL, input="Look.", tools=[TOOL]) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds.count("response.function_call_arguments.delta") == 3
    calls = [(item.call_id, item.name, item.arguments) for item in final.output]  # type: ignore[union-attr]
    assert calls == [("call_a", "look", '{"at": "stars"}'), ("call_b", "wait", "{}")]


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_thoughts_refusals_and_cuts(world: World, http: httpx.AsyncClient, stream: bool) -> None:
    device = await world.seller()
    client = client_for(world, http, await world.buyer())

    async def asked(behaviour: Any, **more: Any) -> Any:
        device.behaviour = behaviour
        if not stream:
            return await client.responses.create(model=MODEL, input="Go.", **more)
        return (await streamed(client, input="Go.", **more))[-1].response

    calls = await asked(scripted.two_calls, tools=[TOOL], tool_choice={"type": "function", "name": "look"})
    assert [(item.type, item.name, item.status) for item in calls.output] == [
        ("function_call", "look", "completed"),
        ("function_call", "wait", "completed"),
    ]
    assert calls.output[0].arguments == '{"at": "stars"}'
    sent = json.loads(device.jobs[-1].body)
    assert sent["tools"] == [{"type": "function", "function": {k: v for k, v in TOOL.items() if k != "type"}}]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    thought = await asked(scripted.thoughtful)
    assert [item.type for item in thought.output] == ["reasoning", "message"]
    assert thought.output[0].content[0].text == "Let me think."
    assert thought.output_text == "Done."
    assert 0 < thought.usage.output_tokens_details.reasoning_tokens < thought.usage.output_tokens
    refused = await asked(scripted.refusing)
    assert (refused.output[0].content[0].type, refused.output[0].content[0].refusal) == (
        "refusal",
        "I will not.",
    )
    cut = await asked(scripted.cut_off)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert cut.output[0].status == "incomplete"
    likely = await asked(scripted.with_logprobs, include=["message.output_text.logprobs"], top_logprobs=1)
    assert [one.token for one in likely.output[0].content[0].logprobs] == ["Hel", "lo"]
    await world.no_holds()


async def test_a_conversation_travels_whole(world: World, http: httpx.AsyncClient) -> None:
    device = await world.seller(behaviour=scripted.two_calls)
    client = client_for(world, http, await world.buyer())
    first = await client.responses.create(model=MODEL, input="Look.", tools=[TOOL])
    conversation: list[Any] = [
        {"role": "user", "content": [{"type": "input_text", "text": "Look."}]},
        *[item.model_dump(exclude_none=True) for item in first.output],
        {"type": "function_call_output", "call_id": "call_a", "output": "bright"},
        {
            "type": "function_call_output",
            "call_id": "call_b",
            "output": [{"type": "input_text", "text": "ok"}],
        },
    ]
    device.behaviour = scripted.thoughtful
    second = await client.responses.create(model=MODEL, input=conversation, tools=[TOOL])
    conversation += [item.model_dump(exclude_none=True) for item in second.output]
    conversation.append({"type": "message", "role": "user", "content": "Thanks."})
    device.behaviour = scripts.good
    await client.responses.create(model=MODEL, input=conversation)
    look, wait = (
        {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call, name, arguments in (("call_a", "look", '{"at": "stars"}'), ("call_b", "wait", "{}"))
    )
    text = "text"
    assert json.loads(device.jobs[-1].body)["messages"] == [
        {"role": "user", "content": [{"type": text, "text": "Look."}]},
        {"role": "assistant", "tool_calls": [look, wait]},
        {"role": "tool", "content": "bright", "tool_call_id": "call_a"},
        {"role": "tool", "content": [{"type": text, "text": "ok"}], "tool_call_id": "call_b"},
        {"role": "assistant", "content": [{"type": text, "text": "Done."}]},
        {"role": "user", "content": "Thanks."},
    ]


async def test_the_format_of_the_text(world: World, http: httpx.AsyncClient) -> None:
    device = await world.seller()
    client = client_for(world, http, await world.buyer())
    schema: Any = {"type": "json_schema", "name": "star", "schema": {"type": "object"}, "strict": True}
    await client.responses.create(
        model=MODEL, input="x", text={"format": schema, "verbosity": "low"}, reasoning={"effort": "low"}
    )
    sent = json.loads(device.jobs[-1].body)
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "star", "schema": {"type": "object"}, "strict": True},
    }
    assert (sent["verbosity"], sent["reasoning_effort"]) == ("low", "low")
    await client.responses.create(model=MODEL, input="x", text={"format": {"type": "json_object"}})
    assert json.loads(device.jobs[-1].body)["response_format"] == {"type": "json_object"}
    await client.responses.create(model=MODEL, input="x", text={"format": {"type": "text"}})
    assert "response_format" not in json.loads(device.jobs[-1].body)


async def test_a_failure_inside_a_stream_is_its_last_event(world: World, http: httpx.AsyncClient) -> None:
    await world.seller(behaviour=scripts.fault_after)
    client = client_for(world, http, await world.buyer())
    events = await streamed(client, input="Go.")
    assert events[-1].type == "response.failed"
    assert events[-1].response.status == "failed"
    assert events[-1].response.error.code == "server_error"
    assert events[-1].response.yggdrasil["code"] == "provider_failed"
    assert (await world.no_holds()).cost_microcents == 0


REFUSED: list[tuple[Any, str]] = [
    ({"store": True}, "store"),
    ({"background": True}, "background"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"truncation": "auto"}, "truncation"),
    ({"max_tool_calls": 1}, "max_tool_calls"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"include": ["file_search_call.results"]}, "include[0]"),
    ({"tools": [{"type": "web_search"}]}, "tools[0]"),
    ({"reasoning": {"effort": "low", "summary": "auto"}}, "reasoning.summary"),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"input": []}, "input"),
    ({"input": [{"role": "system", "content": "only this"}]}, "input"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"type": "function_call", "name": "x", "arguments": ""}]}, "input[0].call_id"),
    ({"input": [{"role": "user", "content": "x", "output": "y"}]}, "input[0].output"),
    (
        {"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]},
        "input[0].content",
    ),
    ({"extra_body": {"nonsense": 1}}, "nonsense"),
    ({"stream": True, "extra_body": {"yggdrasil": {"on_break": "restart"}}}, "on_break"),
]


async def test_what_cannot_be_done_is_refused_by_name(world: World, http: httpx.AsyncClient) -> None:
    client = client_for(world, http, await world.buyer())
    for asked, param in REFUSED:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**{"model": MODEL, "input": "x", **asked})
        assert (caught.value.type, caught.value.code) == ("invalid_request_error", "invalid_input")
        assert str(caught.value.param).startswith(param)


async def test_a_stream_that_was_resumed_is_one_message(world: World, http: httpx.AsyncClient) -> None:
    await world.seller("first", behaviour=scripts.fault_after)
    await world.seller("second")
    client = client_for(world, http, await world.buyer())
    for _ in range(8):
        events = await streamed(
            client, input="Say some words.", extra_body={"yggdrasil": {"on_break": "resume"}}
        )
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert events[-1].type == "response.completed"
        assert len(events[-1].response.output) == 1
        assert events[-1].response.output_text == text
        if text.startswith(" half"):
            break
    assert text == " half" + " word" * 5
    assert events[-1].response.yggdrasil["broken_segments"][0]["kept"] is True
    await world.no_holds()


async def test_pictures_are_refused_by_name(world: World, http: httpx.AsyncClient) -> None:
    client = client_for(world, http, await world.buyer())
    picture: Any = {"type": "input_image", "image_url": "data:image/png;base64,", "detail": "auto"}
    with pytest.raises(openai.BadRequestError, match="input_image"):
        await client.responses.create(model=MODEL, input=[{"role": "user", "content": [picture]}])
