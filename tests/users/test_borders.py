"""What one person's secrets tell of, or lend to, another: nothing. Each of these fails for a leak that is
planted.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.support import make_network
from tests.users.conftest import Device, House, code_in, other_code
from yggdrasil.errors import NotFound, Unauthenticated
from yggdrasil.kernel import Role
from yggdrasil.users import apikeys, store_keys
from yggdrasil.users.store_keys import NO_TERMS

ASK, EMBLA = "ask@example.org", "embla@example.org"


async def a_key(house: House, email: str = ASK) -> apikeys.ApiKey:
    token = (await house.sign_in(email, Device()))["access_token"]
    key = apikeys.parse((await house.post("/keys", {"name": "ci"}, token)).json()["key"])
    assert key is not None
    return key


def with_other_secrets(key: apikeys.ApiKey) -> list[str]:
    """The same network and key id; the secret differs at its beginning, and at its end."""
    turned = bytes(byte ^ 1 for byte in key.secret)
    return [replace(key, secret=one).text() for one in (turned, key.secret[:-1] + turned[-1:])]


async def test_a_key_that_was_looked_up_lends_itself_to_no_other(house: House) -> None:
    key = await a_key(house)
    assert (await house.users.authenticate(f"Bearer {key.text()}")).key_id == key.key_id
    for text in with_other_secrets(key):
        with pytest.raises(Unauthenticated):
            await house.users.authenticate(f"Bearer {text}")


async def test_who_asks_at_the_same_moment_gets_an_answer_of_his_own(house: House) -> None:
    key = await a_key(house)
    texts = [key.text(), *with_other_secrets(key)]
    asked = [house.users.authenticate(f"Bearer {text}") for text in texts]
    mine, *others = await asyncio.gather(*asked, return_exceptions=True)
    assert not isinstance(mine, BaseException)
    assert [type(other) for other in others] == [Unauthenticated] * len(others)


async def test_a_wrong_secret_finds_as_little_as_none(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sees no difference, so it can take no other time over it."""
    key, foreign = await a_key(house), await a_key(house, EMBLA)
    found: list[object] = []
    select = store_keys.select_key

    async def seen(*asked: Any) -> store_keys.FoundKey | None:
        found.append(await select(*asked))
        return found[-1]

    monkeypatch.setattr(store_keys, "select_key", seen)
    for text in (
        with_other_secrets(key)[0],
        replace(key, key_id=house.ids.uuid()).text(),
        replace(key, key_id=foreign.key_id).text(),
        replace(key, network_id=foreign.network_id).text(),
    ):
        with pytest.raises(Unauthenticated):
            await house.users.authenticate(f"Bearer {text}")
    assert found == [None] * 4
    await house.users.authenticate(f"Bearer {key.text()}")
    assert found[-1] is not None


async def test_a_verified_token_lends_itself_to_no_other_signature(house: House) -> None:
    token = (await house.sign_in(ASK, Device()))["access_token"]
    await house.users.authenticate(f"Bearer {token}")
    claims, _, signature = token.rpartition(".")
    other = (await house.sign_in(EMBLA, Device()))["access_token"].rpartition(".")[2]
    turned = ("B" if signature[0] == "A" else "A") + signature[1:]
    for forged in (other, turned, ""):
        with pytest.raises(Unauthenticated):
            await house.users.authenticate(f"Bearer {claims}.{forged}")


async def test_guesses_at_one_address_are_not_counted_against_another(house: House) -> None:
    """Codes asked for and guessed wrong until none is mailed any more; another person notices nothing."""
    for _ in range(house.users.settings.sends_max):
        device = Device()
        flow, code = await house.start(ASK, device)
        for by in range(1, house.users.settings.tries_max + 1):
            assert (await house.verify(device, flow, other_code(code, by))).status_code == 401
    await house.users.postman.drain()
    mails = len(house.inbox.mails)
    assert (await house.post("/users/login", Device().login_body(ASK))).status_code == 202
    await house.users.postman.drain()
    assert len(house.inbox.mails) == mails
    await house.sign_in(EMBLA, Device())


async def test_a_mail_holds_one_code_and_nobodys_address(house: House) -> None:
    for email in (ASK, EMBLA, ASK):
        await house.start(email, Device())
    texts = {mail.text.replace(code_in(mail), "-") for mail in house.inbox.mails}
    assert len(texts) == 1
    assert "@" not in texts.pop()


async def test_keys_are_their_makers_and_not_the_networks(house: House) -> None:
    """Neither a member nor the owner of the network lists, rotates or revokes another member's key."""
    owner = await make_network(house.database, house.ids, house.clock)
    member = await make_network(
        house.database, house.ids, house.clock, role=Role.MEMBER, home=owner.network_id
    )
    ring = house.users._keyring
    for maker, other in ((owner, member), (member, owner)):
        made, _ = await ring.create(maker, "ci", NO_TERMS)
        assert made.key_id not in {one.key_id for one in (await ring.page(other))[0]}
        with pytest.raises(NotFound):
            await ring.rotate(other, made.key_id, 60)
        with pytest.raises(NotFound):
            await ring.revoke(other, made.key_id)
        (mine,) = (await ring.page(maker))[0]
        assert (mine.key_id, mine.rotated_at) == (made.key_id, None)  # the control: it is there, unchanged


async def test_somebodys_flow_is_refused_like_one_that_never_was(house: House) -> None:
    """Signed as it must be by a device of the stranger's own: only the flow is another's, spent, or none."""
    mine, stranger = Device(), Device()
    flow, code = await house.start(ASK, mine)
    spent, old = await house.start(EMBLA, mine)
    assert (await house.verify(mine, spent, old)).status_code == 200
    answers = [
        await house.verify(stranger, asked, code) for asked in (flow, spent, str(house.ids.uuid()))
    ] + [await house.verify(mine, spent, old), await house.verify(mine, flow, other_code(code))]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert len({str(sorted(answer.headers.items())) for answer in answers}) == 1
    assert (await house.verify(mine, flow, code)).status_code == 200  # the control: it was there
