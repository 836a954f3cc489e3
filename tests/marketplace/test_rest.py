"""The REST edge of the marketplace, over the same world."""

from __future__ import annotations

import json

import httpx

from tests.marketplace import world as scripts
from tests.marketplace.world import EMBEDDER, MODEL, World
from yggdrasil.kernel import Network

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Say some words."}], "max_tokens": 50}
ROOT = "/api/v1/marketplace"


def bearer(world: World, scope: Network) -> dict[str, str]:
    token = f"rest-{scope.user_id}"
    world.tokens[token] = scope
    return {"authorization": f"Bearer {token}"}


async def test_a_request_is_created_and_found_again(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    buyer = await world.buyer()
    me = bearer(world, buyer)
    asked = {"kind": "chat", "request": BODY, "max_cost_cents": 50, "idempotency_key": "one"}
    made = await http.post(f"{ROOT}/requests", json=asked, headers=me)
    assert made.status_code == 201, made.text
    transaction_id = made.headers["x-yggdrasil-transaction"]
    answer = made.json()
    assert answer["transaction"]["state"] == "COMPLETED"
    assert answer["transaction"]["transaction_id"] == transaction_id
    assert answer["result"]["choices"][0]["message"]["content"] == " word" * 5
    cost = (await world.no_holds()).cost_microcents
    assert made.headers["x-yggdrasil-cost-microcents"] == str(cost)

    again = await http.post(f"{ROOT}/requests", json=asked, headers=me)
    assert again.headers["x-yggdrasil-transaction"] == transaction_id
    assert again.json() == answer
    assert (await world.no_holds()).cost_microcents == cost

    found = await http.get(f"{ROOT}/requests/{transaction_id}", headers=me)
    assert found.json() == answer["transaction"]
    stored = await http.get(f"{ROOT}/requests/{transaction_id}/result", headers=me)
    assert stored.json() == answer["result"]
    assert (await http.post(f"{ROOT}/requests/{transaction_id}/cancel", headers=me)).status_code == 409
    listed = await http.get(f"{ROOT}/transactions", headers=me)
    assert [item["transaction_id"] for item in listed.json()["items"]] == [transaction_id]
    assert (await http.get(f"{ROOT}/transactions/{transaction_id}", headers=me)).status_code == 200
    world.clock.advance(901)
    assert (await http.get(f"{ROOT}/requests/{transaction_id}/result", headers=me)).status_code == 404


async def test_nobody_else_finds_it(world: World, http: httpx.AsyncClient) -> None:
    seller = await world.seller()
    buyer = await world.buyer()
    mate = await world.person(buyer)
    stranger = await world.person()
    made = await http.post(
        f"{ROOT}/requests", json={"kind": "chat", "request": BODY}, headers=bearer(world, buyer)
    )
    transaction_id = made.headers["x-yggdrasil-transaction"]
    absent = str(world.ids.uuid())
    paths = [f"{ROOT}/requests/{{}}", f"{ROOT}/requests/{{}}/result", f"{ROOT}/transactions/{{}}"]
    for other in (mate, stranger, seller.scope):
        for path in paths:
            foreign = await http.get(path.format(transaction_id), headers=bearer(world, other))
            missing = await http.get(path.format(absent), headers=bearer(world, other))
            assert (foreign.status_code, foreign.content) == (missing.status_code, missing.content)
            assert foreign.status_code == 404
        foreign = await http.post(paths[0].format(transaction_id) + "/cancel", headers=bearer(world, other))
        assert foreign.status_code == 404


async def test_a_stream_of_events(world: World, http: httpx.AsyncClient) -> None:
    await world.seller()
    buyer = await world.buyer()
    asked = {"kind": "chat", "request": BODY, "stream": True}
    made = await http.post(f"{ROOT}/requests", json=asked, headers=bearer(world, buyer))
    assert made.headers["content-type"].startswith("text/event-stream")
    events = [event for event in made.text.split("\n\n") if event and not event.startswith(":")]
    assert events[-1].startswith("event: done\ndata: ")
    last = json.loads(events[-1].split("data: ", 1)[1])
    assert last["transaction_id"] == made.headers["x-yggdrasil-transaction"]
    assert last["cost_microcents"] == (await world.no_holds()).cost_microcents
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in events[:-1])


async def test_silence_is_filled_with_comments_and_ends_in_an_error(
    world: World, http: httpx.AsyncClient
) -> None:
    await world.seller(behaviour=scripts.silent)
    asked = {"kind": "chat", "request": BODY, "stream": True}
    made = await http.post(f"{ROOT}/requests", json=asked, headers=bearer(world, await world.buyer()))
    assert ": keepalive\n\n" in made.text
    assert made.text.rsplit("event: ", 1)[1].startswith("error\n")
    assert "provider_failed" in made.text
    assert (await world.no_holds()).cost_microcents == 0


async def test_bad_requests_name_the_field(world: World, http: httpx.AsyncClient) -> None:
    me = bearer(world, await world.buyer())
    bad: list[tuple[dict[str, object], str]] = [
        ({"kind": "chat", "request": {"model": MODEL}}, "messages"),
        ({"kind": "chat", "request": BODY | {"best_of": 1}}, "best_of"),
        ({"kind": "chat", "request": BODY, "max_cost_cents": -1}, "max_cost_cents"),
        ({"kind": "chat", "request": BODY, "deadline_seconds": 601}, "deadline_seconds"),
        ({"kind": "chat", "request": BODY, "only": ["alice"]}, "only"),
        ({"kind": "chat", "request": BODY, "max_cost_cents": 1, "max_cost_microcents": 1}, "max_cost"),
        ({"kind": "chat", "request": BODY, "idempotency_key": ""}, "idempotency_key"),
        ({"kind": "embeddings", "request": {"model": EMBEDDER, "input": [""]}}, "input"),
        ({"kind": "magic", "request": BODY}, "kind"),
        ({"kind": "chat", "request": BODY, "surprise": 1}, "surprise"),
    ]
    for asked, word in bad:
        answer = await http.post(f"{ROOT}/requests", json=asked, headers=me)
        assert answer.status_code == 400, asked
        assert word in answer.text, asked


async def test_providers_over_rest(world: World, http: httpx.AsyncClient) -> None:
    owner = await world.person()
    stranger = await world.buyer()
    device = await world.device(owner, "pc")
    me = bearer(world, owner)
    terms = {"model": MODEL, "price_cents": 7}
    asked = {"device_id": "pc", "models": [terms]}
    assert (await http.post(f"{ROOT}/providers/register", json=asked, headers=me)).status_code == 402
    await world.method(owner)
    made = await http.post(f"{ROOT}/providers/register", json=asked, headers=me)
    assert made.status_code == 201, made.text
    provider_id = made.json()["provider_id"]
    assert made.json()["offers"][0]["mine"]
    assert (await http.post(f"{ROOT}/providers/register", json=asked, headers=me)).status_code == 409
    theirs = bearer(world, stranger)
    listed = (await http.get(f"{ROOT}/providers", headers=theirs)).json()["items"]
    assert [(item["model"], item["price_cents"], item["mine"]) for item in listed] == [(MODEL, 7, False)]
    name = listed[0]["offer"]
    assert (await http.get(f"{ROOT}/providers/{name}", headers=theirs)).json() == listed[0]
    assert (await http.get(f"{ROOT}/providers/{name}", headers=me)).status_code == 404
    for method in ("GET", "PUT", "DELETE"):
        body = {"json": {}} if method == "PUT" else {}
        foreign = await http.request(method, f"{ROOT}/providers/{provider_id}", headers=theirs, **body)
        assert foreign.status_code == 404
    changed = await http.put(
        f"{ROOT}/providers/{provider_id}", json={"models": [terms | {"price_cents": 8}]}, headers=me
    )
    assert changed.json()["offers"][0]["price_cents"] == 8
    assert (await http.get(f"{ROOT}/providers/{name}", headers=theirs)).json()["price_cents"] == 8
    paused = await http.put(f"{ROOT}/providers/{provider_id}", json={"status": "paused"}, headers=me)
    assert paused.json()["status"] == "paused"
    assert (await http.get(f"{ROOT}/providers", headers=theirs)).json()["items"] == []
    assert (await http.delete(f"{ROOT}/providers/{provider_id}", headers=me)).status_code == 204
    assert (await http.get(f"{ROOT}/providers/{provider_id}", headers=me)).status_code == 404
    device.leave()
    offline = await http.post(f"{ROOT}/providers/register", json=asked, headers=me)
    assert offline.status_code == 409
