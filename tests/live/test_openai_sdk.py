"""The real `openai` SDK against the real server: models, a streamed chat, embeddings, and typed errors."""

from __future__ import annotations

import pytest

from openai import APIStatusError, AsyncOpenAI, AuthenticationError, BadRequestError, NotFoundError
from tests.live.house import House, Script, fund, person, selling


async def test_models_chat_embeddings_and_an_empty_wallet(house: House) -> None:
    seller, buyer = await person(house, "sdk-seller"), await person(house, "sdk-buyer")
    async with seller, buyer:
        await fund(seller)
        await fund(buyer, 100)
        key = (await buyer.create_key("sdk"))["key"]
        script = Script(words=7)
        async with (
            selling(seller, model="sdk-model", script=script, price_cents=10),
            AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client,
        ):
            models = [model.id async for model in await client.models.list()]
            assert "sdk-model" in models

            text, usage, finish = "", None, None
            stream = await client.chat.completions.create(
                model="sdk-model",
                messages=[{"role": "user", "content": "Count seven words."}],
                stream=True,
                stream_options={"include_usage": True},
                max_tokens=100,
            )
            async for part in stream:
                assert part.model == "sdk-model"
                assert "secret" not in part.model_dump_json()
                if part.choices:
                    text += part.choices[0].delta.content or ""
                    finish = part.choices[0].finish_reason or finish
                usage = part.usage or usage
            assert text == "".join(f"word{number} " for number in range(7))
            assert finish == "stop"
            assert usage is not None
            assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0

            whole = await client.chat.completions.with_raw_response.create(
                model="sdk-model", messages=[{"role": "user", "content": "Again."}], max_tokens=50
            )
            assert whole.parse().choices[0].message.content == text
            assert int(whole.headers["x-yggdrasil-cost-microcents"]) > 0
            assert whole.headers["x-yggdrasil-transaction"]

            # No offer may cost that little: the wish is named, and nothing is dispatched.
            before = script.accepted
            with pytest.raises(APIStatusError) as unmet:
                await client.chat.completions.create(
                    model="sdk-model",
                    messages=[{"role": "user", "content": "Cheap, please."}],
                    extra_body={"yggdrasil": {"max_price_cents": 1}},
                )
            assert unmet.value.code == "no_provider"
            assert "max_price" in unmet.value.message
            assert script.accepted == before

            with pytest.raises(BadRequestError, match="nonsense"):
                await client.chat.completions.create(
                    model="sdk-model", messages=[{"role": "user", "content": "x"}], extra_body={"nonsense": 1}
                )
            with pytest.raises(NotFoundError):
                await client.models.retrieve("no-such-model")
        async with AsyncOpenAI(base_url=f"{house.url}/v1", api_key="ygg_wrong", max_retries=0) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.models.list()


async def test_embeddings_and_the_end_of_the_money(house: House) -> None:
    seller, buyer = await person(house, "sdk-seller-2"), await person(house, "sdk-buyer-2")
    async with seller, buyer:
        await fund(seller)
        await fund(buyer, 50)
        key = (await buyer.create_key("sdk"))["key"]
        async with (
            selling(seller, model="sdk-vectors", script=Script(), price_cents=20_000, kind="embeddings"),
            AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client,
        ):
            answer = await client.embeddings.create(model="sdk-vectors", input=["one", "two"])
            assert [item.embedding for item in answer.data] == [[0.5, -0.5], [0.5, -0.5]]
            # 20 cents a token: 40 of 50 are gone, and one more token does not fit.
            with pytest.raises(APIStatusError) as error:
                await client.embeddings.create(model="sdk-vectors", input="three")
            assert error.value.status_code == 402
            assert error.value.code == "insufficient_funds"
    books = await house.audit()
    assert books["sum_microcents"] == books["clearing_microcents"] == books["open_holds"] == 0
    assert books["cost_microcents"] == books["fee_microcents"] + books["earnings_microcents"] > 0
