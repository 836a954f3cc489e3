"""An account is not deleted while it works for others: what that earns would find nobody."""

from __future__ import annotations

import asyncio

import httpx

from tests.live.house import House, person
from tests.live.sockets import call
from tests.live.test_hanging_up import Held, trade
from yggdrasil.vedrfolnir.account import Account

PROVIDER, WALLET = "a provider works for others", "the wallet is not empty"


async def deletion(house: House, account: Account) -> tuple[int, str]:
    answer = await call(house, "DELETE", "/api/v1/users/me", await account.token())
    return answer.status_code, answer.json()["detail"] if answer.content else ""


async def test_a_seller_at_work_is_not_deleted_and_keeps_what_he_earns(house: House) -> None:
    async with (
        trade(house, "closing", Held()) as made,
        await person(house, "closing-neighbour") as neighbour,
        httpx.AsyncClient(timeout=30) as http,
    ):
        body = made.body(stream=True)
        url = f"{house.url}/v1/chat/completions"
        request = http.build_request("POST", url, json=body, headers=made.headers)
        answer = await http.send(request, stream=True)
        await asyncio.wait_for(made.held.started.wait(), 15)
        code, why = await deletion(house, made.seller)
        assert (code, why[: len(PROVIDER)]) == (409, PROVIDER)
        # Nobody else is kept by it.
        assert await deletion(house, neighbour) == (204, "")
        await answer.aclose()
        mine = await made.ended()
        earned = (await made.seller.balance())["earnings_microcents"]
        assert 0 < earned < mine["total_microcents"]
        code, why = await deletion(house, made.seller)
        assert (code, why[: len(WALLET)]) == (409, WALLET)
