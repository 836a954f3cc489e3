"""Analytics over real runs: the figures are the ledger's, at the REST edge, as JSON and as a table."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import httpx
import msgspec
import pytest
from litestar import Litestar

from tests.marketplace.test_analytics import recomputed
from tests.marketplace.test_key_terms import with_key
from tests.marketplace.test_rest import bearer
from tests.marketplace.world import World, chat, chat_terms
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.edge import check_query
from yggdrasil.kernel import Network
from yggdrasil.marketplace import analytics_routes, store_analytics
from yggdrasil.marketplace.analytics import AnalyticsReport, NetworkTotal, Side
from yggdrasil.marketplace.analytics_csv import cell
from yggdrasil.marketplace.analytics_periods import Bucket

ROOT = "/api/v1/marketplace/analytics"
MODEL = "=cmd|'/C'!A0"


@dataclass
class Trade:
    """A seller who served a buyer twice and his mate once, an hour apart: real runs, real money."""

    world: World
    seller: Network
    buyer: Network
    mate: Network

    async def report(self, scope: Network, side: Side, bucket: Bucket = "all") -> AnalyticsReport:
        return await self.world.market.analytics.report(
            scope, side, from_=None, to=None, bucket=bucket, timezone="Europe/Berlin", group_by=None
        )


@pytest.fixture
async def trade(world: World) -> Trade:
    seller = await world.seller(terms=[chat_terms(), chat_terms(model=MODEL)])
    buyer = await world.buyer()
    made = Trade(world, seller.scope, buyer, await world.person(buyer))
    for person, model in ((buyer, "tiny-chat"), (made.mate, "tiny-chat"), (buyer, MODEL)):
        await (await world.market.run(person, chat(model=model))).outcome()
        world.clock.advance(3_600)
    return made


async def test_the_figures_are_the_ledgers(trade: Trade, admin: Login) -> None:
    world = trade.world
    books = await world.no_holds()
    earned = await trade.report(trade.seller, "provider")
    spent = await trade.report(trade.buyer, "requester")
    by_mate = await trade.report(trade.mate, "requester")
    assert earned.total.requests == 3
    assert (spent.total.requests, by_mate.total.requests) == (2, 1)
    assert earned.total.earnings_microcents == books.earnings_microcents > 0
    assert earned.total.fee_microcents == books.fee_microcents
    assert spent.total.cost_microcents + by_mate.total.cost_microcents == books.cost_microcents
    # The owner sees what the whole network spent, the mate his own alone.
    assert spent.network_total == NetworkTotal(3, books.cost_microcents)
    assert by_mate.network_total is None
    assert earned.network_total == NetworkTotal(3, books.earnings_microcents)

    hours = (await trade.report(trade.seller, "provider", "hour")).rows
    entries = await as_superuser(
        world.database,
        admin,
        "SELECT at, amount_microcents AS earned FROM tenant.entries WHERE account = 'earnings' ORDER BY at",
    )
    assert [row.figures.earnings_microcents for row in hours] == [entry["earned"] for entry in entries]
    for row, entry in zip(hours, entries, strict=True):
        assert row.start <= entry["at"] < row.end  # type: ignore[operator]


@pytest.fixture
def app(app: Litestar) -> Litestar:
    app.register(analytics_routes.router)
    return app


async def test_earnings_by_device_model_and_hour(trade: Trade, http: httpx.AsyncClient) -> None:
    asked = {"bucket": "hour", "group_by": "device,model", "timezone": "Asia/Kathmandu"}
    answer = await http.get(f"{ROOT}/provider", params=asked, headers=bearer(trade.world, trade.seller))
    report = answer.json()
    assert [row["group"]["model"] for row in report["rows"]] == ["tiny-chat", "tiny-chat", MODEL]
    assert {row["group"]["device_id"] for row in report["rows"]} == {"pc"}
    # The first request was at 00:00Z, which is 05:45 in Kathmandu.
    assert [row["start"] for row in report["rows"]] == [
        f"2026-01-01T0{hour}:00:00+05:45" for hour in (5, 6, 7)
    ]


async def test_the_quality_of_offers_by_the_names_one_knows(trade: Trade, http: httpx.AsyncClient) -> None:
    me = bearer(trade.world, trade.buyer)
    asked = {"bucket": "all", "group_by": "offer,model"}
    report = (await http.get(f"{ROOT}/requester", params=asked, headers=me)).json()
    offers = (await http.get("/api/v1/marketplace/providers", headers=me)).json()["items"]
    assert {row["group"]["offer"] for row in report["rows"]} == {offer["offer"] for offer in offers}
    assert all(row["figures"]["success_share"] == 1 for row in report["rows"])
    assert str(trade.seller.network_id) not in str(report)
    assert str(trade.seller.user_id) not in str(report)


async def test_nobody_sees_what_others_traded(trade: Trade, http: httpx.AsyncClient) -> None:
    stranger = await trade.world.person()
    for person, side in ((stranger, "provider"), (stranger, "requester"), (trade.mate, "provider")):
        me = bearer(trade.world, person)
        report = (await http.get(f"{ROOT}/{side}", params={"bucket": "all"}, headers=me)).json()
        assert report["rows"] == []
        assert report["total"] == msgspec.to_builtins(recomputed([]))
        assert not report["network_total"] or report["network_total"] == {"settlements": 0, "microcents": 0}


async def test_a_table_says_the_same_and_runs_nothing(trade: Trade, http: httpx.AsyncClient) -> None:
    me = bearer(trade.world, trade.seller)
    asked = {"bucket": "hour", "group_by": "model,error,device"}
    report = (await http.get(f"{ROOT}/provider", params=asked, headers=me)).json()
    answer = await http.get(f"{ROOT}/provider", params={**asked, "format": "csv"}, headers=me)
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["content-disposition"] == 'attachment; filename="provider-2025-12-02-hour.csv"'
    assert answer.text.count("\r\n") == 4
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert len(lines) == len(report["rows"]) == 3
    for line, row in zip(lines, report["rows"], strict=True):
        flat = {**row["group"], **row["figures"], "start": row["start"], "end": row["end"]}
        if flat["model"] == MODEL:
            flat["model"] = "'" + MODEL
        assert line == {name: "" if value is None else str(value) for name, value in flat.items()}


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", " =1", "\t=1", "\rx", "\nx", "＝1", "\u00a0@x"])
def test_a_cell_is_no_formula(text: str) -> None:
    assert cell(text) == "'" + text


@pytest.mark.parametrize("text", ["a=1", "llama-3", "1+1", "", "'=1"])
def test_other_text_stays(text: str) -> None:
    assert cell(text) == text


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"group_by": "user"}, "group_by"),
        ({"group_by": "offer"}, "group_by"),
        ({"group_by": "model,model"}, "group_by"),
        ({"group_by": "kind,model,scope,state,error"}, "group_by"),
        ({"group_by": "model,"}, "group_by"),
        ({"from": "2020"}, "from"),
        ({"to": "2026-01-01T00:00:00+02:00 "}, "to"),
        ({"timezone": "Berlin"}, "timezone"),
        ({"bucket": "year"}, "bucket"),
        ({"format": "xml"}, "format"),
        ({"from_": "2025-01-01T00:00:00Z"}, "from_"),
    ],
)
async def test_what_is_wrong_is_named(
    world: World, app: Litestar, http: httpx.AsyncClient, asked: dict[str, str], field: str
) -> None:
    app.before_request = check_query
    answer = await http.get(f"{ROOT}/provider", params=asked, headers=bearer(world, await world.person()))
    assert answer.status_code == 400
    assert answer.json()["field"] == field


async def test_a_key_is_named_while_it_is_ones_own_and_not_revoked(trade: Trade) -> None:
    world, buyer, mate = trade.world, trade.buyer, trade.mate
    keys = [await with_key(world, person) for person in (buyer, buyer, mate)]
    for scope in keys:
        await (await world.market.run(scope, chat())).outcome()
        world.clock.advance(1)

    async def names(scope: Network) -> dict[str | int | None, str | int | None]:
        report = await world.market.analytics.report(
            scope, "requester", from_=None, to=None, bucket="all", timezone="UTC", group_by="key"
        )
        return {row.group["key"]: row.group["key_name"] for row in report.rows}

    first, second, third = (str(scope.key_id) for scope in keys)
    # Of a mate's key there is no row in one's own report, whatever the role; of a session's request no key.
    assert await names(buyer) == {None: None, first: "test", second: "test"}
    assert await names(mate) == {None: None, third: "test"}
    async with world.database.transaction(buyer) as tx:
        await tx.execute(
            "UPDATE tenant.api_keys SET revoked_at = $2 WHERE key_id = $1", keys[1].key_id, world.clock.now()
        )
        asked = [scope.key_id for scope in keys if scope.key_id is not None]
        assert await store_analytics.key_names(tx, buyer.network_id, asked) == {keys[0].key_id: "test"}
    assert await names(buyer) == {None: None, first: "test", second: None}


async def test_the_name_of_a_key_is_a_column_of_the_table(trade: Trade, http: httpx.AsyncClient) -> None:
    scope = await with_key(trade.world, trade.buyer)
    await (await trade.world.market.run(scope, chat())).outcome()
    trade.world.clock.advance(1)
    asked = {"bucket": "all", "group_by": "key", "format": "csv"}
    me = bearer(trade.world, trade.buyer)
    answer = await http.get(f"{ROOT}/requester", params=asked, headers=me)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {(row["key"], row["key_name"]) for row in rows} == {("", ""), (str(scope.key_id), "test")}
