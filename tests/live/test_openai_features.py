"""Tools, several choices, likelihoods and `/v1/responses`: the real SDK against the real server and a real
device."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openai import APIStatusError, AsyncOpenAI, BadRequestError
from tests.live.house import House, Script, fund, person, selling
from yggdrasil.vedrfolnir.links import Job

MODEL = "features"
TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
FLAT: Any = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]


def choice(index: int, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, **more}


def answer_to(body: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """What a server with all features says: as many choices as asked for, a call if it has tools."""
    if "tools" in body:
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
        parts = [{"index": 0, "function": {"arguments": text}} for text in ('{"at":', ' "sea"}')]
        return [
            *[[choice(0, {"tool_calls": [part]})] for part in (call, *parts)],
            [choice(0, {}, "tool_calls")],
        ]
    if body.get("logprobs"):
        likely = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]}
        return [[choice(0, {"content": "Hi"}, logprobs=likely)], [choice(0, {}, "stop")]]
    count = range(body.get("n", 1))
    return [
        *[[choice(i, {"content": f"answer {i}"}) for i in count]],
        *[[choice(i, {"content": " ends"}, "stop")] for i in count],
    ]


class Featured(Script):
    """A device whose backend has all of the API's features."""

    def __init__(self) -> None:
        super().__init__(serve=self._serve)
        self.bodies: list[dict[str, Any]] = []

    async def _serve(self, job: Job) -> None:
        job.accept()
        body = json.loads(await job.body())
        self.bodies.append(body)
        for choices in answer_to(body):
            document = {"id": "secret", "object": "chat.completion.chunk", "created": 1, "model": "secret"}
            await job.send(json.dumps({**document, "choices": choices}).encode())
        job.done(prompt_tokens=10, completion_tokens=4)


async def test_the_features_of_the_api(house: House) -> None:
    seller, buyer = await person(house, "feature-seller"), await person(house, "feature-buyer")
    async with seller, buyer:
        await fund(seller)
        await fund(buyer, 500)
        key = (await buyer.create_key("sdk"))["key"]
        script = Featured()
        async with (
            selling(seller, model=MODEL, script=script, price_cents=10),
            AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client,
        ):
            await chats(client, script)
            await responses(client)
            await refusals(client)
    books = await house.audit()
    assert books["sum_microcents"] == books["clearing_microcents"] == books["open_holds"] == 0


async def chats(client: AsyncOpenAI, script: Featured) -> None:
    messages: Any = [{"role": "user", "content": "Go."}]
    async with client.chat.completions.stream(model=MODEL, messages=messages, tools=TOOLS) as stream:
        async for _ in stream:
            pass
        called = (await stream.get_final_completion()).choices[0]
    assert called.finish_reason == "tool_calls"
    assert called.message.tool_calls is not None
    assert called.message.tool_calls[0].function.arguments == '{"at": "sea"}'
    schema: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    several = await client.chat.completions.create(
        model=MODEL, messages=messages, n=3, stop=["END"], response_format=schema
    )
    assert [one.message.content for one in several.choices] == [f"answer {i} ends" for i in range(3)]
    assert script.bodies[-1]["response_format"] == schema
    assert script.bodies[-1]["stop"] == ["END"]
    likely = await client.chat.completions.create(model=MODEL, messages=messages, logprobs=True)
    assert likely.choices[0].logprobs is not None
    assert likely.choices[0].logprobs.content is not None
    assert likely.choices[0].logprobs.content[0].logprob == -0.5
    last = None
    async for part in await client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    ):
        last = part
    assert last is not None
    assert last.usage is not None
    assert last.yggdrasil["cost_microcents"] > 0  # type: ignore[attr-defined]


async def responses(client: AsyncOpenAI) -> None:
    whole = await client.responses.create(model=MODEL, input="Go.", instructions="Be brief.", store=False)
    assert whole.output_text == "answer 0 ends"
    assert whole.usage is not None
    assert whole.usage.output_tokens > 0
    events = [event async for event in await client.responses.create(model=MODEL, input="Go.", stream=True)]
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert deltas == ["answer 0", " ends"]
    assert events[-1].response.yggdrasil["cost_microcents"] > 0  # type: ignore[union-attr]
    async with client.responses.stream(model=MODEL, input="Go.", tools=FLAT) as stream:
        async for _ in stream:
            pass
        final: Any = await stream.get_final_response()
    assert (final.output[0].name, final.output[0].arguments) == ("look", '{"at": "sea"}')


async def refusals(client: AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Go."}]
    for changes in ({"extra_body": {"functions": []}}, {"n": 99}, {"store": True}):
        with pytest.raises(BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=messages, **changes)
        assert refused.value.type == "invalid_request_error"
        assert refused.value.param in ("functions", "n", "store")
    for asked in ({"store": True}, {"previous_response_id": "resp_1"}):
        with pytest.raises(BadRequestError) as unkept:
            await client.responses.create(model=MODEL, input="x", **asked)
        assert unkept.value.param in asked
    with pytest.raises(APIStatusError) as dear:
        await client.responses.create(
            model=MODEL, input="x", extra_body={"yggdrasil": {"max_cost_microcents": 1}}
        )
    assert dear.value.code == "no_provider"
