"""The device's client against the real routes: both sides read docs/protocol/sign-in.md."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support import ManualClock
from tests.users.conftest import Device, House, code_in
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile
from yggdrasil.vedrfolnir.login import Login


async def test_the_client_signs_in_refreshes_and_calls(house: House, tmp_path: Path) -> None:
    file = IdentityFile(tmp_path / "identity.json")
    file.save(Identity.new("http://localhost", "laptop", house.ids))
    http = httpx.AsyncClient(transport=house.client._transport)
    async with Login(file, clock=house.clock, ids=house.ids, http=http) as login:
        flow = await login.begin("ask@example.org", "Ask")
        await house.users.postman.drain()
        session = await login.verify(flow, code_in(house.inbox.mails[-1]))
        assert (await login.call("GET", "/api/v1/users/me"))["display_name"] == "Ask"
        house.clock.advance(1000)
        me = await login.call("GET", "/api/v1/users/me")
        assert me["user_id"] == str(session.user_id)
        assert await login.token() != session.access_token
        await login.call("POST", "/api/v1/keys", json={"name": "ci"})
        assert len(await login.listed("/api/v1/keys", {})) == 1


async def test_the_client_of_a_known_device_is_not_locked_out_by_strangers(
    house: House, tmp_path: Path
) -> None:
    file = IdentityFile(tmp_path / "identity.json")
    file.save(Identity.new("http://localhost", "laptop", house.ids))
    http = httpx.AsyncClient(transport=house.client._transport)
    async with Login(file, clock=house.clock, ids=house.ids, http=http) as login:
        flow = await login.begin("ask@example.org")
        await house.users.postman.drain()
        await login.verify(flow, code_in(house.inbox.mails[-1]))
        house.clock.advance(3600)
        stranger = Device()
        answers = [await house.post("/users/login", stranger.login_body("ask@example.org")) for _ in range(8)]
        assert answers[-1].status_code == 429, "the control: strangers are out of codes"
        flow = await login.begin("ask@example.org")
        await house.users.postman.drain()
        assert (await login.verify(flow, code_in(house.inbox.mails[-1]))).network_id


async def test_a_known_device_whose_clock_is_wrong_signs_in_as_a_stranger(
    house: House, tmp_path: Path
) -> None:
    file = IdentityFile(tmp_path / "identity.json")
    file.save(Identity.new("http://localhost", "laptop", house.ids))
    http = httpx.AsyncClient(transport=house.client._transport)
    wrong = ManualClock()
    async with Login(file, clock=wrong, ids=house.ids, http=http) as login:
        for _ in range(2):
            flow = await login.begin("ask@example.org")
            await house.users.postman.drain()
            await login.verify(flow, code_in(house.inbox.mails[-1]))
            house.clock.advance(4000)
