"""What OpenAI's own client reads from this server."""

from __future__ import annotations

import httpx
import pytest

import openai
from tests.marketplace import world as scripts
from tests.marketplace.world import EMBEDDER, MODEL, World, chat_terms, embed_terms
from tests.openai.conftest import client_for

MESSAGES = [{"role": "user", "content": "Say some words."}]


async def test_a_whole_completion(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    buyer = await world.buyer()
    client = client_for(world, http, buyer)
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES, max_tokens=50
    )
    made = raw.parse()
    assert made.choices[0].message.content == " word" * 5
    assert made.choices[0].finish_reason == "stop"
    assert made.model == MODEL
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens > 0
    assert made.yggdrasil["cost_microcents"] == (await world.no_holds()).cost_microcents > 0
    assert raw.headers["x-yggdrasil-transaction"] == made.yggdrasil["transaction_id"]
    assert raw.headers["x-yggdrasil-cost-microcents"] == str(made.yggdrasil["cost_microcents"])


async def test_a_stream_with_usage(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    client = client_for(world, http, await world.buyer())
    stream = await client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=50, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == " word" * 5
    assert chunks[-1].usage.completion_tokens == 5
    assert chunks[-1].yggdrasil["cost_microcents"] == (await world.no_holds()).cost_microcents
    plain = [
        chunk
        async for chunk in await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    ]
    assert all(chunk.choices for chunk in plain)


async def test_a_failure_inside_a_stream_is_raised_by_the_client(
    world: World, http: httpx.AsyncClient
) -> None:
    await world.seller(behaviour=scripts.fault_after)
    client = client_for(world, http, await world.buyer())
    stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError) as caught:
        [chunk async for chunk in stream]
    assert caught.value.code == "provider_failed"
    assert (await world.no_holds()).cost_microcents == 0


async def test_embeddings_in_both_encodings(world: World, http: httpx.AsyncClient) -> None:
    await world.seller(terms=[embed_terms()])
    client = client_for(world, http, await world.buyer())
    for asked in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        made = await client.embeddings.create(model=EMBEDDER, input=["a text", "another"], **asked)
        assert [item.index for item in made.data] == [0, 1]
        assert made.usage.total_tokens == made.usage.prompt_tokens > 0
        if asked.get("encoding_format") == "base64":
            assert isinstance(made.data[0].embedding, str)
        else:
            assert made.data[1].embedding == [0.25, -0.5, 1.0]
    one = await client.embeddings.create(model=EMBEDDER, input="a text")
    assert len(one.data) == 1
    await world.no_holds()


async def test_models_are_those_that_can_be_reached(world: World, http: httpx.AsyncClient) -> None:
    seller = await world.seller(terms=[chat_terms(), embed_terms()])
    home = await world.person()
    private = await world.device(home, "mine")
    await world.register(private, audience="own", terms=[chat_terms(model="private")])
    buyer = client_for(world, http, await world.buyer())
    assert [model.id async for model in buyer.models.list()] == [MODEL, EMBEDDER]
    assert (await buyer.models.retrieve(MODEL)).owned_by == "yggdrasil"
    for unreachable in ("private", "absent"):
        with pytest.raises(openai.NotFoundError):
            await buyer.models.retrieve(unreachable)
    mine = client_for(world, http, home)
    assert [model.id async for model in mine.models.list()] == ["private", MODEL, EMBEDDER]
    seller.leave()
    assert [model.id async for model in buyer.models.list()] == []


async def test_wishes_travel_in_the_body_and_in_headers(world: World, http: httpx.AsyncClient) -> None:
    home = await world.person()
    await world.register(await world.device(home), audience="own")
    client = client_for(world, http, home)
    in_body = await client.chat.completions.create(
        model=MODEL, messages=MESSAGES, extra_body={"yggdrasil": {"scope": "own"}}
    )
    in_header = await client.chat.completions.create(
        model=MODEL, messages=MESSAGES, extra_headers={"X-Yggdrasil-Scope": "own"}
    )
    assert in_body.yggdrasil["cost_microcents"] == in_header.yggdrasil["cost_microcents"] == 0
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert caught.value.code == "no_provider"


async def test_errors_have_the_shape_of_the_api(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    poor = client_for(world, http, await world.person())
    refused: list[tuple[dict[str, object], type[openai.APIStatusError], str]] = [
        ({"extra_body": {"best_of": 2}}, openai.BadRequestError, "best_of"),
        ({"extra_body": {"yggdrasil": {"max_costs": 2}}}, openai.BadRequestError, "max_costs"),
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"n": 17}, openai.BadRequestError, "n"),
        ({"stream_options": {"include_usage": True}}, openai.BadRequestError, "stream_options"),
        ({"extra_headers": {"x-yggdrasil-max-cost-cents": "-1"}}, openai.BadRequestError, "max_cost_cents"),
        ({}, openai.APIStatusError, "payment method"),
    ]
    for changes, kind, word in refused:
        with pytest.raises(kind) as caught:
            await poor.chat.completions.create(model=MODEL, messages=MESSAGES, **changes)
        assert word in caught.value.message, changes
        assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert caught.value.status_code == 402
    stranger = openai.AsyncOpenAI(
        api_key="wrong", base_url="http://yggdrasil/v1", http_client=http, max_retries=0
    )
    with pytest.raises(openai.AuthenticationError):
        await stranger.models.list()
    for body in (b"", b"{", b"[]", b'"\xff"'):
        answer = await http.post(
            "/v1/embeddings", content=body, headers={"authorization": f"Bearer {poor.api_key}"}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
    await world.no_holds()
