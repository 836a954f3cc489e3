"""A provider breaks off after its first chunk: fail, resume or restart; nothing is billed twice."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.marketplace import world as scripts
from tests.marketplace.test_rest import BODY, ROOT, bearer
from tests.marketplace.test_wishes import name_of
from tests.marketplace.world import World, chat, chat_terms
from yggdrasil.errors import LimitReached, ProviderFailed
from yggdrasil.kernel import Network, System
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.run import Chunk, Finished, Mark
from yggdrasil.marketplace.segments import BREAK_SECONDS, Breaks


async def pair(world: World, first: scripts.Behaviour) -> tuple[scripts.Provider, scripts.Provider, Network]:
    """A dear one that breaks off and a cheap one that does not, and a buyer."""
    breaking = await world.seller("breaking", first, [chat_terms(1_000)])
    steady = await world.seller("steady", terms=[chat_terms(10)])
    return breaking, steady, await world.buyer(100_000)


async def read(
    world: World, buyer: Network, device: scripts.Provider, **wishes: Any
) -> tuple[list[Chunk], Finished]:
    order = [name_of(world, buyer, device)]
    run = await world.market.run(buyer, chat(**{"order": order, **wishes}))
    parts = [part async for part in run.parts()]
    last = parts.pop()
    assert isinstance(last, Finished)
    return [part for part in parts if isinstance(part, Chunk)], last


def text(chunks: list[Chunk]) -> str:
    choices = [json.loads(chunk.data)["choices"] for chunk in chunks]
    return "".join(one[0]["delta"].get("content") or "" for one in choices if one)


async def attempts(world: World) -> list[tuple[str, int]]:
    async with world.database.transaction(System("test")) as tx:
        rows = await tx.fetch("SELECT state, observed_tokens FROM platform.attempts ORDER BY ordinal")
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("behaviour", [scripts.fault_after, scripts.half_then_silent])
async def test_resumed(world: World, behaviour: scripts.Behaviour) -> None:
    breaking, steady, buyer = await pair(world, behaviour)
    chunks, last = await read(world, buyer, breaking, on_break="resume")
    assert last.state is State.COMPLETED
    assert text(chunks) == " half" + " word" * 5
    assert last.answer["choices"][0]["message"]["content"] == text(chunks)
    marks = [chunk for chunk in chunks if isinstance(chunk, Mark)]
    assert [mark.kind for mark in marks] == ["resumed"]
    assert chunks.index(marks[0]) == 1
    assert json.loads(marks[0].data)["yggdrasil"] == {"segment": {"kind": "resumed", "attempt": 2}}
    roles = [
        one["choices"][0]["delta"].get("role")
        for one in (json.loads(chunk.data) for chunk in chunks)
        if one["choices"]
    ]
    assert roles.count("assistant") == 1
    asked = json.loads(steady.jobs[0].body)
    assert asked["messages"][-1] == {"role": "assistant", "content": " half"}
    assert asked["messages"][:-1] == json.loads(breaking.jobs[0].body)["messages"]
    assert asked["max_tokens"] == 99
    # Prompt and first text once, at the second one's price; the first one earns nothing.
    steady_cost = 10 * 1_000 * (last.prompt_tokens + last.completion_tokens)
    assert last.cost_microcents == steady_cost
    assert (await world.no_holds()).cost_microcents == steady_cost
    assert last.told()["broken_segments"] == [
        {"attempt": 1, "completion_tokens": 1, "kept": True, "cost_microcents": 0}
    ]
    assert [state for state, _ in await attempts(world)] == ["failed", "completed"]
    (sold,) = (await world.market.transactions(breaking.scope, side=None, limit=9, cursor=None)).items
    assert (sold.state, sold.earnings_microcents) == ("FAILED", 0)


async def test_restarted(world: World) -> None:
    breaking, steady, buyer = await pair(world, scripts.fault_after)
    chunks, last = await read(world, buyer, breaking, on_break="restart")
    (at,) = [i for i, chunk in enumerate(chunks) if isinstance(chunk, Mark)]
    assert text(chunks[:at]) == " half"
    assert text(chunks[at:]) == " word" * 5 == last.answer["choices"][0]["message"]["content"]
    asked, before = json.loads(steady.jobs[0].body), json.loads(breaking.jobs[0].body)
    assert (asked["messages"], asked["max_tokens"]) == (before["messages"], 100)
    assert last.told()["broken_segments"][0]["kept"] is False
    alone, unbroken = await read(world, buyer, steady, on_break="restart")
    assert unbroken.cost_microcents == last.cost_microcents
    assert "broken_segments" not in unbroken.told()
    assert not any(isinstance(chunk, Mark) for chunk in alone)
    assert (await world.no_holds()).cost_microcents == 2 * last.cost_microcents


async def test_several_breaks_in_a_row(world: World) -> None:
    """Each goes on from all that was delivered; one that fails unseen leaves no trace in the text."""
    breaking, steady, buyer = await pair(world, scripts.fault_after)
    again = await world.seller("again", scripts.fault_after, [chat_terms(9)])
    unseen = await world.seller("unseen", scripts.fault_first, [chat_terms(9)])
    order = [name_of(world, buyer, device) for device in (breaking, again, unseen, steady)]
    run = await world.market.run(buyer, chat(order=order, on_break="resume", allow_fallbacks=False))
    chunks = [part async for part in run.parts()]
    last = chunks.pop()
    assert isinstance(last, Finished)
    assert last.attempts == 4
    assert text(chunks) == " half half" + " word" * 5
    marks = [json.loads(chunk.data)["yggdrasil"]["segment"] for chunk in chunks if isinstance(chunk, Mark)]
    assert [mark["attempt"] for mark in marks] == [2, 4]
    assert json.loads(steady.jobs[0].body)["messages"][-1]["content"] == " half half"
    assert len(last.told()["broken_segments"]) == 2
    await world.no_holds()


async def test_fails_as_before(world: World) -> None:
    """By default, and when nobody can go on: an error, and nothing is paid."""

    def tool_then_fault(device: scripts.Provider, job: scripts.JobReady) -> None:
        call = {"index": 0, "id": "x", "function": {"name": "look", "arguments": "{"}}
        device.client.send(job.link, json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode())
        device.client.fault(job.link, "out_of_memory", "no room")

    breaking, steady, buyer = await pair(world, scripts.fault_after)
    with pytest.raises(ProviderFailed):
        await read(world, buyer, breaking)
    breaking.behaviour = tool_then_fault
    with pytest.raises(ProviderFailed):
        await read(world, buyer, breaking, on_break="resume")
    breaking.behaviour = scripts.fault_after
    with pytest.raises(ProviderFailed):
        await read(world, buyer, breaking, on_break="resume", allow_fallbacks=False)
    assert steady.jobs == []
    assert (await world.no_holds()).cost_microcents == 0
    breaking.behaviour = tool_then_fault
    chunks, _ = await read(world, buyer, breaking, on_break="restart")
    assert text(chunks) == " word" * 5


async def test_the_highest_cost_holds_over_all_segments(world: World) -> None:
    breaking = await world.seller("breaking", scripts.fault_after)
    await world.seller("steady", scripts.endless)
    buyer = await world.buyer()
    chunks, last = await read(
        world, buyer, breaking, on_break="resume", max_tokens=None, max_cost_microcents=500_000
    )
    assert text(chunks).startswith(" half word")
    assert last.answer["choices"][0]["finish_reason"] == "length"
    assert 400_000 < last.cost_microcents <= 500_000
    assert (await world.no_holds()).cost_microcents == last.cost_microcents


async def test_free_text_has_an_end(world: World) -> None:
    """Whoever crashes backends in mid-stream gets so much for nothing and no more."""
    world.market._serving.breaks = Breaks(3)
    breaking, _, buyer = await pair(world, scripts.fault_after)
    other = await world.buyer()
    for _ in range(3):
        with pytest.raises(ProviderFailed):
            await read(world, buyer, breaking)
    with pytest.raises(LimitReached) as caught:
        await read(world, buyer, breaking)
    assert caught.value.retry_after_seconds is not None
    chunks, _ = await read(world, other, breaking, on_break="restart")
    assert text(chunks).endswith(" word")
    world.clock.advance(BREAK_SECONDS + 1)
    with pytest.raises(ProviderFailed):
        await read(world, buyer, breaking)
    assert (await world.no_holds()).open_holds == 0


def test_breaks_are_forgotten(ids: Any) -> None:
    breaks, one = Breaks(2), ids.uuid()
    for at in (0.0, 10.0):
        breaks.check(one, at)
        breaks.count(one, at)
    with pytest.raises(LimitReached) as caught:
        breaks.check(one, 100.0)
    assert caught.value.retry_after_seconds == round(BREAK_SECONDS - 100)
    breaks.check(ids.uuid(), 100.0)
    breaks.check(one, BREAK_SECONDS + 1)
    breaks.forget(BREAK_SECONDS + 11)
    assert breaks._at == {}


async def test_over_both_apis(world: World, http: httpx.AsyncClient) -> None:
    breaking, _, buyer = await pair(world, scripts.fault_after)
    me = bearer(world, buyer)
    order = [name_of(world, buyer, breaking)]
    wishes = {"order": order, "on_break": "restart"}
    answer = await http.post(
        f"{ROOT}/requests", json={"kind": "chat", "request": BODY, "stream": True, **wishes}, headers=me
    )
    assert "event: restarted\ndata: " in answer.text
    done = json.loads(answer.text.rsplit("event: done\ndata: ", 1)[1])
    assert done["broken_segments"][0]["kept"] is False
    answer = await http.post(
        "/v1/chat/completions",
        json=BODY | {"stream": True, "provider": {"order": order}, "yggdrasil": {"on_break": "resume"}},
        headers=me,
    )
    assert '"choices":[],"yggdrasil":{"segment":{"kind":"resumed","attempt":2}}' in answer.text
    assert "event:" not in answer.text
    assert answer.text.rstrip().endswith("data: [DONE]")
    whole = await http.post(
        "/v1/chat/completions", json=BODY | {"provider": wishes | {"on_break": "resume"}}, headers=me
    )
    assert whole.json()["choices"][0]["message"]["content"] == " half" + " word" * 5
    assert whole.json()["yggdrasil"]["broken_segments"][0]["kept"] is True
    refused = await http.post("/v1/chat/completions", json=BODY | {"provider": {"on_break": "x"}}, headers=me)
    assert refused.status_code == 400
    refused = await http.post(
        "/v1/responses",
        json={"model": BODY["model"], "input": "hi", "stream": True, "yggdrasil": {"on_break": "restart"}},
        headers=me,
    )
    assert refused.status_code == 400
    assert "on_break" in refused.text
