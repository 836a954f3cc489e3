"""API keys: shown once, revoked at once, and nobody learns of another's."""

from __future__ import annotations

import pytest

from tests.support import as_superuser
from tests.users.conftest import Device, House, all_at_once
from yggdrasil.db.address import Login
from yggdrasil.errors import Unauthenticated
from yggdrasil.users import apikeys
from yggdrasil.users.gate import Revocation

ASK, EMBLA = "ask@example.org", "embla@example.org"


async def test_a_key_is_shown_once_and_acts_for_its_maker(house: House, admin: Login) -> None:
    tokens = await house.sign_in(ASK, Device())
    made = await house.post("/keys", {"name": "ci"}, tokens["access_token"])
    assert made.status_code == 201
    key = made.json()
    assert key["key"].startswith("ygg_")
    scope = await house.users.authenticate(f"Bearer {key['key']}")
    assert str(scope.user_id) == tokens["user_id"]
    assert str(scope.network_id) == tokens["network_id"]
    assert str(scope.key_id) == key["key_id"]
    assert scope.session_id is None
    listed = await house.get("/keys", tokens["access_token"])
    assert listed.json() == {
        "items": [{"key_id": key["key_id"], "name": "ci", "created_at": key["created_at"]}],
        "next": None,
    }
    parsed = apikeys.parse(key["key"])
    assert parsed is not None
    rows = await as_superuser(house.database, admin, "SELECT k::text AS line FROM tenant.api_keys k")
    assert parsed.secret.hex() not in str(rows)
    assert parsed.digest().hex() in str(rows)


async def test_a_key_cannot_do_what_needs_a_session(house: House) -> None:
    tokens = await house.sign_in(ASK, Device())
    key = (await house.post("/keys", {"name": "ci"}, tokens["access_token"])).json()
    assert (await house.post("/keys", {"name": "more"}, key["key"])).status_code == 403
    assert (await house.delete(f"/keys/{key['key_id']}", key["key"])).status_code == 403
    assert (await house.post("/users/logout", None, key["key"])).status_code == 403


async def test_revoked_at_once_here_and_soon_elsewhere(house: House) -> None:
    other = house.another_node()
    tokens = await house.sign_in(ASK, Device())
    key = (await house.post("/keys", {"name": "ci"}, tokens["access_token"])).json()
    authorization = f"Bearer {key['key']}"
    for node in (house.users, other):
        await node.authenticate(authorization)
    told: list[Revocation] = []
    other.on_revoked.append(told.append)
    house.users.on_revoked.append(told.append)
    assert (await house.delete(f"/keys/{key['key_id']}", tokens["access_token"])).status_code == 204
    with pytest.raises(Unauthenticated):
        await house.users.authenticate(authorization)
    house.clock.advance(house.users.settings.key_cache_seconds)
    with pytest.raises(Unauthenticated):
        await other.authenticate(authorization)
    await other.sweep()
    assert [str(revocation.key_id) for revocation in told] == [key["key_id"]] * 2


async def test_a_lookup_under_way_does_not_outlive_the_revocation(house: House) -> None:
    tokens = await house.sign_in(ASK, Device())
    key = (await house.post("/keys", {"name": "ci"}, tokens["access_token"])).json()
    scope = await house.users.authenticate(f"Bearer {key['key']}")
    await house.delete(f"/keys/{key['key_id']}", tokens["access_token"])
    with pytest.raises(Unauthenticated):
        house.users._gate.keep_key(key["key"], scope)


async def test_foreign_absent_and_revoked_keys_have_one_answer(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    embla = (await house.sign_in(EMBLA, Device()))["access_token"]
    foreign = (await house.post("/keys", {"name": "ci"}, embla)).json()
    revoked = (await house.post("/keys", {"name": "old"}, ask)).json()
    await house.delete(f"/keys/{revoked['key_id']}", ask)
    answers = [
        await house.delete(f"/keys/{key_id}", ask)
        for key_id in (foreign["key_id"], revoked["key_id"], str(house.ids.uuid()))
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert len({str(sorted(answer.headers.items())) for answer in answers}) == 1
    assert (await house.get("/keys", ask)).json() == {"items": [], "next": None}
    assert (await house.get("/users/me", foreign["key"])).status_code == 200


async def test_forged_keys_have_one_answer(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    real = apikeys.parse((await house.post("/keys", {"name": "ci"}, ask)).json()["key"])
    assert real is not None
    other_network = (await house.sign_in(EMBLA, Device()))["network_id"]
    forged = [
        apikeys.ApiKey(real.network_id, real.key_id, bytes(32)).text(),
        apikeys.ApiKey(real.network_id, house.ids.uuid(), real.secret).text(),
        apikeys.ApiKey(house.ids.uuid(), real.key_id, real.secret).text(),
        apikeys.ApiKey(type(real.key_id)(other_network), real.key_id, real.secret).text(),
        real.text()[:-1],
        real.text() + "A",
        "ygg_",
        "ygg_" + "ü" * 86,
    ]
    answers = [
        await house.client.get("/api/v1/users/me", headers={"authorization": f"Bearer {text}".encode()})
        for text in forged
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert (await house.get("/users/me", real.text())).status_code == 200


async def test_lists_come_in_pages_and_have_an_end(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    names = [f"key {number}" for number in range(7)]
    for name in names:
        await house.post("/keys", {"name": name}, ask)
    seen: list[str] = []
    path = "/keys?limit=3"
    for _ in range(3):
        page = (await house.get(path, ask)).json()
        seen += [item["name"] for item in page["items"]]
        path = f"/keys?limit=3&cursor={page['next']}"
    assert sorted(seen) == names
    assert page["next"] is None
    for bad in ("limit=0", "limit=101", "cursor=x", "limit=x"):
        assert (await house.get(f"/keys?{bad}", ask)).status_code == 400


async def test_there_is_a_limit(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    limit = house.users.settings.keys_max
    await all_at_once(*(house.post("/keys", {"name": "x"}, ask) for _ in range(limit)))
    refused = await house.post("/keys", {"name": "x"}, ask)
    assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "a\nb", "a\u202eb", 7])
async def test_names_have_rules(house: House, name: object) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    assert (await house.post("/keys", {"name": name}, ask)).status_code == 400
    assert (await house.get("/keys", ask)).json()["items"] == []
