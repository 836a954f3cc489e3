"""Company offers: the operator's upstreams as providers of the platform's network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.marketplace import upstream_server as servers
from tests.marketplace.upstream_server import FakeUpstream, upstream
from tests.marketplace.world import EMBEDDER, MODEL, Node, World, chat, embed, fault_first, replace
from tests.marketplace.world import good as provider_good
from yggdrasil.db import Database
from yggdrasil.errors import (
    ConfigurationError,
    NoProvider,
    PaymentMethodRequired,
    ProviderFailed,
    YggdrasilError,
)
from yggdrasil.kernel import PLATFORM_NETWORK, Network, System
from yggdrasil.marketplace.run import Chunk, Finished
from yggdrasil.marketplace.upstream_settings import KeyedUpstream, Upstream, UpstreamModel, load_upstreams
from yggdrasil.vedrfolnir.backend import Backend

KEY = "sk-upstream-0123456789"


def keyed(server: FakeUpstream, name: str = "cloud", **changes: Any) -> KeyedUpstream:
    models = [
        UpstreamModel(
            model=MODEL,
            upstream_model="vendor/large",
            price_cents=10,
            rounding="per_statement",
            context_tokens_max=8_192,
        ),
        UpstreamModel(model=EMBEDDER, kind="embeddings", price_cents=10, context_tokens_max=8_192),
    ]
    settings = Upstream(name=name, base_url=server.url, health_seconds=0.05, models=models)
    return KeyedUpstream(
        Upstream(**{f: getattr(settings, f) for f in settings.__struct_fields__} | changes), KEY
    )


async def become(world: World, *upstreams: KeyedUpstream, online: int | None = None) -> None:
    """The server starts anew, with these upstreams; waits until as many as expected are there."""
    await world.market.stop(0.5)
    world.upstreams = list(upstreams)
    world.market = world.make_market(world.node)
    await world.market.start()
    await until(lambda: there(world) == (len(upstreams) if online is None else online))


def there(world: World) -> int:
    devices = {offer.device for offer in world.market.upstreams.offers()}
    return sum(world.market.upstreams.online(PLATFORM_NETWORK, device) for device in devices)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture
async def cloud(world: World) -> AsyncIterator[FakeUpstream]:
    async with upstream() as server:
        await become(world, keyed(server))
        yield server


async def ask(world: World, who: Network, **wishes: Any) -> Finished:
    return await (await world.market.run(who, chat(**wishes))).outcome()


async def platform(database: Database, sql: str) -> Any:
    async with database.transaction(System("test")) as tx:
        return await tx.fetchval(sql, PLATFORM_NETWORK)


async def test_a_chat_is_routed_counted_and_settled_like_any_other(world: World, cloud: FakeUpstream) -> None:
    buyer = await world.buyer()
    run = await world.market.run(buyer, chat())
    parts = [part async for part in run.parts()]
    assert sum(isinstance(part, Chunk) for part in parts) == 6
    last = parts[-1]
    assert isinstance(last, Finished)
    assert last.answer["choices"][0]["message"]["content"] == " word" * 5
    assert (last.answer["model"], last.completion_tokens) == (MODEL, 5)
    assert b"SECRET" not in b"".join(part.data for part in parts if isinstance(part, Chunk))
    headers, body = cloud.requests[0]
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body["model"] == "vendor/large"
    assert body["stream"] is True
    assert "alice" not in json.dumps(body)
    books = await world.no_holds()
    assert books.cost_microcents == last.cost_microcents > 0
    assert books.fee_microcents == last.cost_microcents * 12 // 100
    earned = "SELECT posted_microcents FROM tenant.balances WHERE network_id = $1 AND account = 'earnings'"
    assert await platform(world.database, earned) == books.earnings_microcents
    sides = "SELECT count(*) FROM tenant.transactions WHERE network_id = $1 AND side = 'provider'"
    assert await platform(world.database, sides) == 1
    view = await world.market.transaction(buyer, run.transaction_id)
    assert (view.state, view.total_microcents) == ("COMPLETED", last.cost_microcents)


async def test_embeddings_too(world: World, cloud: FakeUpstream) -> None:
    last = await (await world.market.run(await world.buyer(), embed("one", "two"))).outcome()
    assert [item["embedding"] for item in last.answer["data"]] == [[0.5, -0.5]] * 2
    assert (await world.no_holds()).cost_microcents == last.cost_microcents > 0


async def test_it_stands_on_the_market_and_nowhere_else(world: World, cloud: FakeUpstream) -> None:
    """What a requester keeps at home never goes to the company."""
    home = await world.buyer()
    for scope in ("own", "network"):
        with pytest.raises(NoProvider):
            await world.market.run(home, chat(scope=scope))
    assert cloud.requests == []
    listed = world.market.offers(home, model=None, within=None, limit=20, cursor=None).items
    assert [(view.model, view.scope, view.mine, view.online) for view in listed] == [
        (MODEL, "market", False, True),
        (EMBEDDER, "market", False, True),
    ]
    assert world.market.models(home)[0].scopes == ["market"]
    # One's own device is asked, the company is not.
    device = await world.device(home)
    await world.register(device, audience="own")
    cloud.requests.clear()
    assert (await ask(world, home, scope="own")).cost_microcents == 0
    assert cloud.requests == []
    with pytest.raises(PaymentMethodRequired):
        await ask(world, await world.person())
    assert cloud.requests == []
    await world.no_holds()


@pytest.mark.parametrize(
    "answer",
    [
        servers.failing,
        servers.busy,
        servers.garbage,
        servers.no_http,
        servers.silent,
        servers.reported,
        servers.one_huge_event,
    ],
)
async def test_one_that_misbehaves_is_passed_over_unseen(world: World, answer: servers.Answer) -> None:
    async with upstream(answer) as bad, upstream() as fine:
        await become(world, keyed(bad, "bad"))
        buyer = await world.buyer()
        with pytest.raises(ProviderFailed) as caught:
            await ask(world, buyer)
        assert "SECRET" not in str(caught.value)
        assert (await world.no_holds()).cost_microcents == 0
        # Bounded: what an upstream pours out is not swallowed.
        assert bad.sent_bytes < 16 * 1024 * 1024
        await become(world, keyed(bad, "bad"), keyed(fine, "fine"))
        last = await ask(world, buyer)
        assert last.answer["choices"][0]["message"]["content"] == " word" * 5
        assert (await world.no_holds()).cost_microcents == last.cost_microcents > 0


@pytest.mark.parametrize("answer", [servers.half_then_silent, servers.half_then_gone])
async def test_half_an_answer_costs_nothing(world: World, answer: servers.Answer) -> None:
    async with upstream(answer) as bad:
        await become(world, keyed(bad))
        with pytest.raises(ProviderFailed):
            await ask(world, await world.buyer())
        if answer is servers.half_then_silent:
            await until(bad.hung_up.is_set)
        assert (await world.no_holds()).cost_microcents == 0


async def test_an_endless_answer_is_cut_at_the_cap_and_hung_up(world: World) -> None:
    async with upstream(servers.endless) as bad:
        await become(world, keyed(bad))
        last = await ask(world, await world.buyer(), max_tokens=50)
        assert last.answer["choices"][0]["finish_reason"] == "length"
        assert last.completion_tokens <= 65
        await until(bad.hung_up.is_set)
        assert (await world.no_holds()).cost_microcents == last.cost_microcents > 0


async def test_a_reader_who_takes_nothing_stops_the_upstream(world: World) -> None:
    """Nothing piles up here: the socket is full, and then the upstream waits."""
    async with upstream(servers.endless) as bad:
        await become(world, keyed(bad))
        run = await world.market.run(await world.buyer(cents=100_000), chat(max_tokens=8_000))
        first = await run.pipe.get()
        assert isinstance(first, Chunk)
        before = -1
        while bad.sent_bytes != before:
            before = bad.sent_bytes
            await asyncio.sleep(0.2)
        assert bad.sent_bytes < 16 * 1024 * 1024
        run.close()
        await until(bad.hung_up.is_set)
        await until(lambda: run.booked)
        await world.no_holds()


async def test_vectors_without_end_are_refused(world: World) -> None:
    async with upstream(servers.huge_vectors) as bad:
        await become(world, keyed(bad))
        with pytest.raises(ProviderFailed):
            await (await world.market.run(await world.buyer(), embed("one"))).outcome()
        assert bad.sent_bytes < 32 * 1024 * 1024
        assert (await world.no_holds()).cost_microcents == 0


async def test_one_that_goes_is_offline_until_it_is_back(world: World, cloud: FakeUpstream) -> None:
    buyer = await world.buyer()
    await cloud.stop()
    # Also before its health was looked at: the first job that finds nobody tells.
    with pytest.raises(YggdrasilError):
        await ask(world, buyer)
    await until(lambda: there(world) == 0)
    with pytest.raises(NoProvider):
        await ask(world, buyer)
    await cloud.start()
    await until(lambda: there(world) == 1)
    assert (await ask(world, buyer)).cost_microcents > 0
    await world.no_holds()


@pytest.mark.parametrize(("health", "online"), [(200, 1), (404, 1), (401, 0), (500, 0)])
async def test_health_is_what_the_list_of_models_says(world: World, health: int, online: int) -> None:
    async with upstream() as server:
        server.health = health
        await become(world, keyed(server), online=online)
        assert there(world) == online


async def test_a_bug_does_not_end_the_looking(
    world: World, cloud: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:

        async def models(_: Backend) -> list[str]:
            raise ZeroDivisionError

        broken.setattr(Backend, "models", models)
        await until(lambda: there(world) == 0)
    await until(lambda: there(world) == 1)


async def test_no_more_jobs_at_a_time_than_it_has_room_for(world: World) -> None:
    async with upstream(servers.half_then_silent) as server:
        await become(world, keyed(server, capacity_jobs=1))
        buyer = await world.buyer()
        run = await world.market.run(buyer, chat())
        await until(lambda: len(server.requests) == 1)
        with pytest.raises(NoProvider):
            await world.market.run(buyer, chat())
        run.close()
        await until(lambda: run.booked)
        server.answer = servers.good
        assert (await ask(world, buyer)).cost_microcents > 0
        await world.no_holds()


async def test_what_was_learnt_outlives_a_restart(world: World, cloud: FakeUpstream) -> None:
    before = {offer.id for offer in world.market.upstreams.offers()}
    for _ in range(5):
        await ask(world, await world.buyer())
    await become(world, *world.upstreams)
    offers = world.market.upstreams.offers()
    assert {offer.id for offer in offers} == before
    assert world.market.routing.standing(offers[0]).weight > 0


async def test_what_a_dead_server_left_at_an_upstream_is_ended(world: World) -> None:
    async with upstream(servers.half_then_silent) as server:
        await become(world, keyed(server))
        world.market._serving._settings = replace(world.settings, stall_seconds=60.0)
        buyers = [await world.buyer(), await world.buyer()]
        runs = [await world.market.run(buyer, chat()) for buyer in buyers]
        for run in runs:
            assert isinstance(await run.pipe.get(), Chunk)
        tasks = list(world.market._serving._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (await world.books()).open_holds == 2
        following = world.make_reconciler(Node(world.node.node_id, world.ids.uuid()))
        assert await following.run_once() == 2
        for buyer, run in zip(buyers, runs, strict=True):
            assert (await world.market.transaction(buyer, run.transaction_id)).state == "FAILED"
        assert (await world.no_holds()).cost_microcents == 0
        failed = "SELECT count(*) FROM tenant.transactions WHERE network_id = $1 AND state = 'FAILED'"
        assert await platform(world.database, failed) == 2


async def test_a_device_and_the_company_stand_in_for_each_other(world: World, cloud: FakeUpstream) -> None:
    """One market: whoever of the two fails, the other one takes over unseen."""
    device = await world.seller(behaviour=fault_first)
    buyer = await world.buyer()
    for _ in range(4):
        last = await ask(world, buyer)
        assert last.answer["choices"][0]["message"]["content"] == " word" * 5
    assert len(cloud.requests) == 4
    device.behaviour = provider_good
    cloud.answer = servers.failing
    for _ in range(4):
        assert (await ask(world, buyer)).completion_tokens == 5
    await world.no_holds()


# ---- the file ---------------------------------------------------------------------------------------------

FILE = """
[[upstream]]
name = "cloud"
base_url = "https://llm.example.org/v1"
key_file = "cloud.key"

[[upstream.models]]
model = "large"
price_cents = 2
context_tokens_max = 131072
"""


def written(place: Path, text: str = FILE, key: str | None = KEY, mode: int = 0o600) -> Path:
    (place / "up.toml").write_text(text)
    if key is not None:
        (place / "cloud.key").write_text(key)
        (place / "cloud.key").chmod(mode)
    return place / "up.toml"


def test_the_file_is_read_and_the_key_stays_out_of_sight(tmp_path: Path) -> None:
    (one,) = load_upstreams(written(tmp_path, key=f"{KEY}\n"))
    assert one.api_key == KEY
    assert one.settings.models[0].name_there == "large"
    assert KEY not in f"{one!r} {one} {one.settings!r}"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "upstream"),
        ("[[upstream]", "TOML"),
        (FILE + "nonsense = 1", "nonsense"),
        (FILE.replace("price_cents = 2", "price_cents = -1"), "price_cents"),
        (FILE.replace("price_cents = 2", ""), "price_cents"),
        (FILE.replace("https://llm", "http://llm"), "https"),
        (FILE.replace("https://llm", f"https://u:{KEY}@llm"), "key_file"),
        (FILE.replace("https://", "ftp://"), "base_url"),
        (FILE.replace('"cloud.key"', '"none.key"'), "key_file"),
        (FILE + FILE, "once"),
        (FILE + FILE[FILE.index("[[upstream.models]]") :], "once"),
        (FILE.replace('"large"', '"la rge"'), "model"),
    ],
)
def test_a_bad_file_names_what_is_wrong(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_upstreams(written(tmp_path, text))
    assert word in caught.value.detail
    assert caught.value.field == "upstreams_file"
    assert KEY not in caught.value.detail


@pytest.mark.parametrize(
    ("key", "mode"), [("", 0o600), ("two\nkeys", 0o600), ("x" * 5_000, 0o600), (KEY, 0o604)]
)
def test_a_bad_key_is_refused_and_not_told(tmp_path: Path, key: str, mode: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_upstreams(written(tmp_path, key=key, mode=mode))
    assert "key_file" in caught.value.detail
    assert not key or key not in caught.value.detail


def test_plaintext_beyond_this_machine_is_asked_for(tmp_path: Path) -> None:
    text = FILE.replace("https://llm", "http://llm").replace(
        'name = "cloud"', 'name = "cloud"\nplaintext = true'
    )
    assert load_upstreams(written(tmp_path, text))[0].settings.plaintext
    with pytest.raises(ConfigurationError):
        load_upstreams(tmp_path / "none.toml")
