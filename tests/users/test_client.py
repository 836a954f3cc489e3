"""The device's client against the real routes: both sides read docs/protocol/sign-in.md."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.users.conftest import House, code_in
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
