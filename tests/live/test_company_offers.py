"""Company offers: a real server, a real upstream process, and the real SDK of somebody who only buys."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from openai import AsyncOpenAI
from tests.conftest import make_directory
from tests.live.house import House, fund, open_house, person
from yggdrasil.demo.extract import CHAT_MODEL
from yggdrasil.demo.minilm import MODEL_NAME

KEY = "sk-company-0123456789"
FILE = """
[[upstream]]
name = "cloud"
base_url = "{url}"
key_file = "cloud.key"
health_seconds = 0.2

[[upstream.models]]
model = "cloud-chat"
upstream_model = "{chat}"
price_cents = 5
context_tokens_max = 8192

[[upstream.models]]
model = "cloud-vectors"
upstream_model = "{vectors}"
kind = "embeddings"
price_cents = 5
context_tokens_max = 8192
"""


@pytest.fixture
def upstream() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "yggdrasil.demo.backend", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().removeprefix("listening "), process
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture
async def house(upstream: tuple[str, subprocess.Popen[str]]) -> AsyncIterator[House]:
    place = make_directory()
    settings = place / "upstreams.toml"
    settings.write_text(FILE.format(url=upstream[0], chat=CHAT_MODEL, vectors=MODEL_NAME))
    (place / "cloud.key").write_text(KEY)
    (place / "cloud.key").chmod(0o600)
    more = {"YGGDRASIL_UPSTREAMS_FILE": str(settings), "YGGDRASIL_LOG_LEVEL": "debug"}
    async with open_house(place, more) as opened:
        yield opened
    shutil.rmtree(place, ignore_errors=True)


async def models_become(client: AsyncOpenAI, names: list[str]) -> None:
    async with asyncio.timeout(20):
        while [model.id async for model in client.models.list()] != names:
            await asyncio.sleep(0.05)


async def test_the_companys_models_are_sold_like_any_other(
    house: House, upstream: tuple[str, subprocess.Popen[str]]
) -> None:
    buyer = await person(house, "cloud-buyer")
    async with buyer:
        await fund(buyer, 200)
        key = (await buyer.create_key("sdk"))["key"]
        async with AsyncOpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client:
            await models_become(client, ["cloud-chat", "cloud-vectors"])
            question = "What is Yggdrasil? Yggdrasil is an ash tree. Its roots reach three wells."
            whole = await client.chat.completions.create(
                model="cloud-chat", messages=[{"role": "user", "content": question}]
            )
            assert whole.choices[0].message.content
            assert whole.model == "cloud-chat"
            assert CHAT_MODEL not in whole.model_dump_json()
            events = [
                event
                async for event in await client.responses.create(
                    model="cloud-chat", input=question, stream=True
                )
            ]
            assert events[-1].type == "response.completed"
            assert events[-1].response.output_text == whole.choices[0].message.content
            vectors = await client.embeddings.create(model="cloud-vectors", input=["one", "two"])
            assert len(vectors.data) == 2
            cost = whole.yggdrasil["cost_microcents"]  # type: ignore[attr-defined]
            assert cost > 0
            # The company's server goes: its models are gone from the list.
            upstream[1].terminate()
            await models_become(client, [])
    books = await house.audit()
    assert books["sum_microcents"] == books["clearing_microcents"] == books["open_holds"] == 0
    assert books["cost_microcents"] == books["fee_microcents"] + books["earnings_microcents"] > cost
    assert KEY not in house.log()
    assert "Yggdrasil is an ash tree" not in house.log()


def test_a_file_that_is_wrong_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "up.toml").write_text("[[upstream]]\nname = 'x'\n")
    ended = subprocess.run(
        [sys.executable, "-m", "yggdrasil", "serve"],
        env={
            "PATH": "/usr/bin:/bin",
            "YGGDRASIL_DATA_DIR": str(tmp_path / "data"),
            "YGGDRASIL_UPSTREAMS_FILE": str(tmp_path / "up.toml"),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "upstreams_file" in ended.stderr + ended.stdout
