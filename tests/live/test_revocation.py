"""What ends takes its sockets along, within a second; and what did not end keeps its own."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.live.house import IDS, House, person
from tests.live.sockets import CLOSE_SECONDS_MAX, call, closed_with, dial, is_served, metric, metric_becomes
from yggdrasil.errors import Unauthenticated
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile

REVOKED = 4506
SOCKETS = "yggdrasil_sockets"


async def test_logout_key_device_and_account_close_their_sockets(house: House) -> None:
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(await person(house, name)) for name in ("ending", "lasting")
        ]
        before = await metric(house, SOCKETS)
        lasting = await dial(house, other)

        # An API key: the session of the same person is not touched.
        key = await one.create_key("revoke-me")
        by_key = await dial(house, one, token=key["key"])
        token = await one.token()
        answer = await call(house, "DELETE", f"/api/v1/keys/{key['key_id']}", token)
        assert answer.status_code == 204
        assert await closed_with(by_key, CLOSE_SECONDS_MAX) == REVOKED
        assert (await call(house, "GET", "/api/v1/keys", key["key"])).status_code == 401
        assert (await call(house, "GET", "/api/v1/keys", token)).status_code == 200

        # A device: its session may register it again.
        by_device = await dial(house, one)
        device_id = one.identity.device_id
        assert (await call(house, "DELETE", f"/api/v1/devices/{device_id}", token)).status_code == 204
        assert await closed_with(by_device, CLOSE_SECONDS_MAX) == REVOKED
        await one.register_device(name="Again", world="Alfheim")

        # A logout.
        by_session = await dial(house, one)
        token = await one.token()
        assert (await call(house, "POST", "/api/v1/users/logout", token)).status_code == 204
        assert await closed_with(by_session, CLOSE_SECONDS_MAX) == REVOKED
        assert (await call(house, "GET", "/api/v1/users/me", token)).status_code == 401
        # Twice: the second has no session to speak for, and nothing happens.
        assert (await call(house, "POST", "/api/v1/users/logout", token)).status_code == 401

        await is_served(lasting)
        await metric_becomes(house, SOCKETS, before + 1)
        await lasting.close()
        await metric_becomes(house, SOCKETS, before)


async def test_an_erased_account_has_no_socket_key_or_token_left(house: House) -> None:
    async with await person(house, "erased") as gone, await person(house, "staying") as other:
        before = await metric(house, SOCKETS)
        token = await gone.token()
        key = (await gone.create_key("k"))["key"]
        socket, lasting = await dial(house, gone), await dial(house, other)
        assert (await call(house, "DELETE", "/api/v1/users/me", token)).status_code == 204
        assert await closed_with(socket, CLOSE_SECONDS_MAX) == REVOKED
        for credential in (token, key):
            assert (await call(house, "GET", "/api/v1/users/me", credential)).status_code == 401
        await metric_becomes(house, SOCKETS, before + 1)
        await is_served(lasting)
        await lasting.close()


async def test_a_second_sign_in_is_not_cut_by_the_logout_of_the_first(house: House) -> None:
    """One person, two sessions on one device key: ending one leaves the other's socket alone."""
    async with await person(house, "twice") as first:
        key = (await first.create_key("other-way-in"))["key"]
        by_key = await dial(house, first, token=key)
        assert (await call(house, "POST", "/api/v1/users/logout", await first.token())).status_code == 204
        await is_served(by_key)
        await by_key.close()


async def test_one_device_has_one_socket_and_the_count_stays_right(house: House) -> None:
    async with await person(house, "loop") as account:
        before = await metric(house, SOCKETS)
        last = await dial(house, account)
        for _ in range(40):
            newer = await dial(house, account)
            assert await closed_with(last, CLOSE_SECONDS_MAX) == 4507
            last = newer
        assert await metric(house, SOCKETS) == before + 1
        await last.close()
        await metric_becomes(house, SOCKETS, before)


async def test_a_removed_device_is_signed_out(house: House) -> None:
    """The lost phone: its session ends with it, and the session that removed it goes on."""
    async with await person(house, "owner", device_id="laptop") as laptop:
        file = IdentityFile(house.place / "phone.json")
        file.save(Identity.new(house.url, "phone", IDS))
        async with Account(file) as phone:
            flow = await phone.begin("owner@example.org")
            await phone.verify(flow, await house.mail.code("owner@example.org"))
            await phone.register_device(name="Phone", world="Midgard")
            socket, token = await dial(house, phone), await phone.token()
            lasting = await dial(house, laptop)
            answer = await call(house, "DELETE", "/api/v1/devices/phone", await laptop.token())
            assert answer.status_code == 204
            assert await closed_with(socket, CLOSE_SECONDS_MAX) == REVOKED
            assert (await call(house, "GET", "/api/v1/users/me", token)).status_code == 401
            with pytest.raises(Unauthenticated):
                await phone.token(renew=True)
            await is_served(lasting)
            await lasting.close()
