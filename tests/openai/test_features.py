"""Tools, formats, several choices and likelihoods, as OpenAI's own client sends and reads them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

import openai
from tests.marketplace.world import MODEL, World
from tests.openai import scripted
from tests.openai.conftest import client_for
from yggdrasil import heidrun
from yggdrasil.marketplace.bodies import ChatBody, Message, chat_request
from yggdrasil.marketplace.wishes import Wishes

MESSAGES: Any = [{"role": "user", "content": "Look at the stars."}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "a tool",
            "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
            "strict": True,
        },
    }
    for name in ("look", "wait")
]
CALLS = [("call_a", "look", '{"at": "stars"}'), ("call_b", "wait", "{}")]


async def test_calls_of_tools_whole_and_assembled_from_a_stream(
    world: World, http: httpx.AsyncClient
) -> None:
    seller = await world.seller(behaviour=scripted.two_calls)
    client = client_for(world, http, await world.buyer())
    asked: Any = {
        "model": MODEL,
        "messages": MESSAGES,
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": True,
        "stop": ["END"],
        "seed": 7,
        "max_tokens": 200,
    }
    whole = await client.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason == "tool_calls"
    calls = whole.choices[0].message.tool_calls or []
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == CALLS  # type: ignore[union-attr]
    sent = json.loads(seller.jobs[0].body)
    assert {name: sent[name] for name in ("tools", "tool_choice", "parallel_tool_calls", "stop", "seed")} == {
        name: asked[name] for name in ("tools", "tool_choice", "parallel_tool_calls", "stop", "seed")
    }
    async with client.chat.completions.stream(**asked) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == CALLS  # type: ignore[union-attr]
    assert final.choices[0].finish_reason == "tool_calls"
    # The answer to a call travels back as a message.
    again = [
        *MESSAGES,
        {"role": "assistant", "tool_calls": [c.model_dump(exclude={"parsed_arguments"}) for c in calls]},
        {"role": "tool", "tool_call_id": "call_a", "content": "bright"},
    ]
    for call in again[1]["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
        call.pop("index", None)
    await client.chat.completions.create(model=MODEL, messages=again, tools=TOOLS)
    assert json.loads(seller.jobs[-1].body)["messages"] == again
    await world.no_holds()


async def test_an_answer_can_be_sent_back_as_it_came(world: World, http: httpx.AsyncClient) -> None:
    seller = await world.seller(behaviour=scripted.thoughtful)
    client = client_for(world, http, await world.buyer())
    first = (await client.chat.completions.create(model=MODEL, messages=MESSAGES)).choices[0].message
    assert first.reasoning_content == "Let me think."  # type: ignore[attr-defined]
    for sent_back in (first, first.model_dump()):
        messages: Any = [*MESSAGES, sent_back, {"role": "user", "content": "Thanks."}]
        await client.chat.completions.create(model=MODEL, messages=messages)
        assert json.loads(seller.jobs[-1].body)["messages"][1] == {
            "role": "assistant",
            "content": "Done.",
            "refusal": None,
        }
    with pytest.raises(openai.BadRequestError, match="audio"):
        await client.chat.completions.create(
            model=MODEL, messages=[{"role": "assistant", "content": "x", "audio": {"id": "a"}}]
        )


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {
            "type": "json_schema",
            "json_schema": {"name": "star", "schema": {"type": "object"}, "strict": True},
        },
    ],
)
async def test_the_format_of_the_answer_reaches_the_provider(
    world: World, http: httpx.AsyncClient, form: Any
) -> None:
    seller = await world.seller()
    client = client_for(world, http, await world.buyer())
    await client.chat.completions.create(model=MODEL, messages=MESSAGES, response_format=form)
    assert json.loads(seller.jobs[-1].body)["response_format"] == form


async def test_several_choices_are_counted_and_paid_each(world: World, http: httpx.AsyncClient) -> None:
    seller = await world.seller(behaviour=scripted.three_choices)
    client = client_for(world, http, await world.buyer())
    made = await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=3, max_tokens=40)
    assert [(c.index, c.message.content, c.finish_reason) for c in made.choices] == [
        (0, "zero more", "stop"),
        (1, "one", "length"),
        (2, "two words", "stop"),
    ]
    sent = json.loads(seller.jobs[0].body)
    assert (sent["n"], sent["max_tokens"]) == (3, 40)
    # Five words in three choices; the provider's claim of twenty is not believed.
    assert made.usage is not None
    assert 5 <= made.usage.completion_tokens <= 6
    stream = await client.chat.completions.create(
        model=MODEL, messages=MESSAGES, n=3, stream=True, stream_options={"include_usage": True}
    )
    texts, ends, usage = ["", "", ""], {}, None
    async for chunk in stream:
        for one in chunk.choices:
            texts[one.index] += one.delta.content or ""
            if one.finish_reason is not None:
                ends[one.index] = one.finish_reason
        usage = chunk.usage or usage
    assert texts == ["zero more", "one", "two words"]
    assert ends == {0: "stop", 1: "length", 2: "stop"}
    assert usage is not None
    assert usage.completion_tokens == made.usage.completion_tokens
    books = await world.no_holds()
    assert books.cost_microcents == 2 * made.yggdrasil["cost_microcents"]  # type: ignore[attr-defined]


async def test_the_highest_cost_covers_all_choices(world: World, http: httpx.AsyncClient) -> None:
    """10 cents per 1,000 tokens: a token is 10,000 micro-cents."""
    seller = await world.seller(behaviour=scripted.three_choices)
    client = client_for(world, http, await world.buyer())
    request = chat_request(ChatBody(MODEL, [Message("user", MESSAGES[0]["content"])]), Wishes())
    prompt = sum(heidrun.count(MODEL, text) for text in request.prompt) + request.overhead_tokens
    cap = (prompt + 4) * 10_000
    capped = await client.chat.completions.create(
        model=MODEL, messages=MESSAGES, n=3, extra_body={"yggdrasil": {"max_cost_microcents": cap}}
    )
    assert json.loads(seller.jobs[-1].body)["max_tokens"] == 1
    assert [c.message.content for c in capped.choices] == ["zero more", "one", "two"]
    assert [c.finish_reason for c in capped.choices] == ["stop", "length", "length"]
    assert capped.yggdrasil["cost_microcents"] == cap  # type: ignore[attr-defined]
    with pytest.raises(openai.InternalServerError, match="max_cost"):
        await client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            n=3,
            extra_body={"yggdrasil": {"max_cost_microcents": cap - 20_000}},
        )
    await world.no_holds()


async def test_a_backend_that_gives_one_choice_is_passed_over_unseen(
    world: World, http: httpx.AsyncClient
) -> None:
    poor = await world.seller("poor", behaviour=scripted.one_choice)
    client = client_for(world, http, await world.buyer())
    stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=3, stream=True)
    seen = []

    async def read() -> None:
        async for chunk in stream:
            seen.append(chunk)  # noqa: PERF401

    with pytest.raises(openai.APIError, match="n: 1 of 3 choices"):
        await read()
    # What one cannot have whole is not shown, or it would be an answer for nothing.
    assert seen == []
    assert (await world.no_holds()).cost_microcents == 0
    rich = await world.seller("rich", behaviour=scripted.three_choices)
    made = await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=3)
    assert len(made.choices) == 3
    assert len(poor.jobs) >= 1
    assert len(rich.jobs) == 1


async def test_likelihoods_pass_through(world: World, http: httpx.AsyncClient) -> None:
    seller = await world.seller(behaviour=scripted.with_logprobs)
    client = client_for(world, http, await world.buyer())
    made = await client.chat.completions.create(model=MODEL, messages=MESSAGES, logprobs=True, top_logprobs=1)
    assert made.choices[0].logprobs is not None
    assert [(one.token, one.logprob) for one in made.choices[0].logprobs.content or ()] == [
        ("Hel", -0.25),
        ("lo", -0.25),
    ]
    sent = json.loads(seller.jobs[0].body)
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 1)


async def test_the_cost_is_in_every_stream(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    buyer = await world.buyer()
    client = client_for(world, http, buyer)
    body = {"model": MODEL, "messages": MESSAGES, "stream": True}
    raw = await http.post(
        "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {client.api_key}"}
    )
    comments = [line for line in raw.text.splitlines() if line.startswith(": yggdrasil ")]
    told = json.loads(comments[0].removeprefix(": yggdrasil "))
    assert told["transaction_id"] == raw.headers["x-yggdrasil-transaction"]
    assert told["cost_microcents"] == (await world.no_holds()).cost_microcents > 0
    assert raw.text.endswith("data: [DONE]\n\n")


async def test_what_is_known_and_private_goes_no_further(world: World, http: httpx.AsyncClient) -> None:
    seller = await world.seller()
    client = client_for(world, http, await world.buyer())
    await client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        user="alice",
        metadata={"for": "alice"},
        service_tier="default",
        store=False,
        modalities=["text"],
        extra_body={"safety_identifier": "alice", "prompt_cache_key": "alice", "top_k": 40, "min_p": 0.1},
    )
    sent = json.loads(seller.jobs[-1].body)
    assert sorted(sent) == ["max_tokens", "messages", "min_p", "model", "stream", "top_k"]
    assert "alice" not in seller.jobs[-1].body.decode()


REFUSED: list[tuple[Any, str]] = [
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "x y"}}]}, "tools[0].function.name"),
    ({"tools": []}, "tools"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": "any"}, "tool_choice"),
    ({"response_format": {"type": "grammar"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"extra_body": {"functions": []}}, "functions"),
    ({"extra_body": {"logit_bias": {"1": "x"}}}, "logit_bias[...]"),
    ({"modalities": ["audio"]}, "modalities[0]"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"store": True}, "store"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
]


async def test_what_cannot_be_done_is_refused_by_name(world: World, http: httpx.AsyncClient) -> None:
    client = client_for(world, http, await world.buyer())
    for changes, param in REFUSED:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES, **changes)
        assert caught.value.param == param
        assert (caught.value.type, caught.value.code) == ("invalid_request_error", "invalid_input")


async def test_types_of_errors_are_those_that_clients_know(world: World, http: httpx.AsyncClient) -> None:
    poor = client_for(world, http, await world.buyer(cents=0))
    with pytest.raises(openai.InternalServerError) as absent:
        await poor.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert (absent.value.type, absent.value.code, absent.value.param) == ("api_error", "no_provider", "model")
    await world.seller()
    with pytest.raises(openai.APIStatusError) as empty:
        await poor.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert (empty.value.status_code, empty.value.type) == (402, "insufficient_quota")
    assert empty.value.code == "insufficient_funds"
    stranger = openai.AsyncOpenAI(
        api_key="x", base_url="http://yggdrasil/v1", http_client=http, max_retries=0
    )
    with pytest.raises(openai.AuthenticationError) as unknown:
        await stranger.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert unknown.value.type == "authentication_error"
    with pytest.raises(openai.NotFoundError) as no_model:
        await poor.models.retrieve("nothing")
    assert no_model.value.type == "invalid_request_error"
