"""Requesters who go away, over real sockets: what was delivered is paid, and the provider is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.live.house import House, Script, chunk, fund, person, selling
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.links import Job

WORDS = 5
WALLET_CENTS = 10_000


@dataclass
class Held:
    """A provider who says a few words and then waits, until it is told to stop. `started` is when the server
    has the words: `discover`, which follows them on the socket, is answered."""

    text: str = " word"
    words: int = WORDS
    sent: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    discover: Callable[[], Awaitable[object]] | None = None

    async def serve(self, job: Job) -> None:
        job.accept()
        await job.body()
        try:
            for _ in range(self.words):
                await job.send(chunk({"content": self.text}))
                self.sent += 1
            assert self.discover is not None
            # A socket's control messages go before what its jobs have queued.
            await job._driver.written(job.number)
            await self.discover()
            self.started.set()
            await asyncio.Event().wait()
        finally:
            # Told to stop: the session cancels the job's task.
            self.stopped.set()


@dataclass
class Trade:
    """A buyer, a seller and what they trade."""

    house: House
    seller: Account
    buyer: Account
    key: str
    held: Held
    model: str

    def body(self, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": "Some words."}]
        return {"model": self.model, "messages": messages, "max_tokens": 100, **more}

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    async def ended(self) -> dict[str, Any]:
        """The buyer's only transaction, once it has ended; the books are sound then."""
        async with asyncio.timeout(15):
            while True:
                (mine,) = await self.buyer.transactions()
                if mine["ended_at"] is not None:
                    break
                await asyncio.sleep(0.05)
        balance = await self.buyer.balance()
        assert balance["wallet_held_microcents"] == 0
        assert balance["wallet_posted_microcents"] == WALLET_CENTS * 1_000_000 - mine["total_microcents"]
        books = await self.house.audit()
        for name in ("sum_microcents", "clearing_microcents", "mismatched_balances", "unbalanced_transfers"):
            assert books[name] == 0
        return dict(mine)


@contextlib.asynccontextmanager
async def trade(house: House, name: str, held: Held) -> AsyncIterator[Trade]:
    async with await person(house, f"{name}-seller") as seller, await person(house, f"{name}-buyer") as buyer:
        await fund(seller)
        await fund(buyer, WALLET_CENTS)
        key = (await buyer.create_key(name))["key"]
        script = Script()
        async with selling(
            seller, model=name, script=script, price_cents=1, context_tokens_max=10_000_000
        ) as connection:
            held.discover = connection.discover
            # Only now: the test of a new provider is answered to its end.
            script.serve = held.serve
            yield Trade(house, seller, buyer, key, held, name)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/api/v1/marketplace/requests"])
async def test_a_stream_left_in_the_middle_is_paid_as_far_as_it_came(house: House, path: str) -> None:
    name = f"left{path.replace('/', '-')}"
    async with trade(house, name, Held()) as made:
        body = made.body(stream=True)
        if path.startswith("/api"):
            body.pop("stream")
            body = {"kind": "chat", "request": body, "stream": True}
        if path == "/v1/responses":
            body = {"model": made.model, "input": "Some words.", "max_output_tokens": 100, "stream": True}
        seen = 0
        async with (
            httpx.AsyncClient(timeout=30) as http,
            http.stream("POST", house.url + path, json=body, headers=made.headers) as answer,
        ):
            assert answer.status_code == httpx.codes.OK, await answer.aread()
            async for line in answer.aiter_lines():
                seen += '"content":"' in line or line == "event: response.output_text.delta"
                if seen == WORDS:
                    break
        await asyncio.wait_for(made.held.stopped.wait(), 15)
        mine = await made.ended()
        assert (mine["state"], mine["completion_tokens"]) == ("CANCELLED", WORDS)
        assert mine["prompt_tokens"] > 0
        assert mine["total_microcents"] > 0


async def test_a_reset_connection_is_a_hang_up(house: House) -> None:
    async with trade(house, "reset", Held()) as made:
        head, body = raw_request(house, made, stream=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(head + body)
        await asyncio.wait_for(reader.readuntil(b" word"), 15)
        linger = bytes([1, 0, 0, 0, 0, 0, 0, 0])
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await asyncio.wait_for(made.held.stopped.wait(), 15)
        mine = await made.ended()
        assert mine["state"] == "CANCELLED"
        assert 0 < mine["completion_tokens"] <= WORDS


def raw_request(house: House, made: Trade, **more: Any) -> tuple[bytes, bytes]:
    body = json.dumps(made.body(**more)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{house.port}\r\n"
        f"authorization: Bearer {made.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode(), body


async def test_a_whole_answer_that_nobody_waits_for_is_cancelled_or_kept(house: House) -> None:
    """The caller of a whole answer hangs up: the books are closed by the deadline at the latest, and what was
    delivered is not free."""
    async with trade(house, "whole", Held()) as made:
        head, body = raw_request(house, made, yggdrasil={"deadline_seconds": 3})
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(head + body)
        await asyncio.wait_for(made.held.started.wait(), 15)
        writer.transport.abort()
        mine = await made.ended()
        assert mine["state"] in ("CANCELLED", "COMPLETED")
        assert mine["completion_tokens"] == WORDS
        assert mine["total_microcents"] > 0
        await asyncio.wait_for(made.held.stopped.wait(), 15)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancelled_request_is_paid_as_far_as_it_came(house: House, stream: bool) -> None:
    more = {"stream_options": {"include_usage": True}} if stream else {}
    async with (
        trade(house, f"cancel-{stream}".lower(), Held()) as made,
        httpx.AsyncClient(timeout=30, headers=made.headers, base_url=house.url) as http,
    ):
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=made.body(stream=stream, **more)))
        await asyncio.wait_for(made.held.started.wait(), 15)
        (mine,) = await made.buyer.transactions()
        place = f"/api/v1/marketplace/requests/{mine['transaction_id']}"
        assert (await http.post(f"{place}/cancel")).status_code == httpx.codes.ACCEPTED
        answer = await asyncio.wait_for(asking, 15)
        await asyncio.wait_for(made.held.stopped.wait(), 15)
        mine = await made.ended()
        assert (mine["state"], mine["completion_tokens"]) == ("CANCELLED", WORDS)
        assert mine["total_microcents"] > 0
        assert answer.status_code == httpx.codes.OK
        if stream:
            assert answer.text.count(" word") == WORDS
            assert answer.text.rstrip().endswith("data: [DONE]")
        else:
            assert answer.json()["choices"][0]["message"]["content"] == " word" * WORDS
            assert int(answer.headers["x-yggdrasil-cost-microcents"]) == mine["total_microcents"]
        kept = await http.get(f"{place}/result")
        assert kept.json()["choices"][0]["message"]["content"] == " word" * WORDS
        again = await http.post(f"{place}/cancel")
        assert (again.status_code, again.json()["code"]) == (httpx.codes.CONFLICT, "conflict")


async def test_a_reader_who_reads_nothing_is_not_buffered_without_bound(house: House) -> None:
    """The provider would send 60 MB, and an answer is cut at 7: it gets no further than the buffers."""
    held = Held(text=" " * 10_000, words=6_000)
    async with trade(house, "slow", held) as made:
        head, body = raw_request(house, made, stream=True, max_tokens=1_000_000)
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            slow.connect(("127.0.0.1", house.port))
            slow.sendall(head + body)
            last = -1
            while held.sent != last or not held.sent:
                last = held.sent
                await asyncio.sleep(0.5)
            assert not held.stopped.is_set(), (held.sent, await made.buyer.transactions())
        await asyncio.wait_for(held.stopped.wait(), 15)
        assert (await made.ended())["state"] == "CANCELLED"
