"""API keys: shown once, revoked at once, and nobody learns of another's."""

from __future__ import annotations

import asyncio
from typing import Any

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
    text = key.pop("key")
    assert listed.json() == {"items": [key], "next": None}
    key["key"] = text
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
        house.users._gate.keep_key(key["key"], scope, None, 0)


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


async def test_a_key_has_terms_and_shows_them(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    terms = {
        "spend_limit_microcents": 5,
        "monthly_limit_microcents": 3,
        "models": ["tiny", "org/large"],
        "expires_at": "2026-01-01T01:00:00Z",
    }
    made = (await house.post("/keys", {"name": "ci", **terms}, ask)).json()
    shown = (await house.get("/keys", ask)).json()["items"][0]
    assert {name: shown[name] for name in terms} == terms
    assert {name: made[name] for name in shown} == shown
    assert (shown["spent_microcents"], shown["month_held_microcents"]) == (0, 0)
    scope = await house.users.authenticate(f"Bearer {made['key']}")
    assert scope.key_models == ("tiny", "org/large")
    plain = (await house.post("/keys", {"name": "plain"}, ask)).json()
    assert (await house.users.authenticate(f"Bearer {plain['key']}")).key_models is None


@pytest.mark.parametrize(
    ("term", "value"),
    [
        ("spend_limit_microcents", -1),
        ("spend_limit_microcents", 2**53 + 1),
        ("monthly_limit_microcents", 1.5),
        ("models", []),
        ("models", ["a", "a"]),
        ("models", ["x" * 129]),
        ("models", ["a\nb"]),
        ("models", [f"m{number}" for number in range(65)]),
        ("expires_at", "2026-01-01T00:00:00Z"),
        ("expires_at", "2026-06-01T00:00:00"),
        ("expires_at", "soon"),
    ],
)
async def test_terms_have_rules(house: House, term: str, value: object) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    refused = await house.post("/keys", {"name": "ci", term: value}, ask)
    assert refused.status_code == 400
    assert term in refused.json()["detail"]
    assert (await house.get("/keys", ask)).json()["items"] == []


async def test_an_expired_key_is_no_key(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    # Within the seconds for which a lookup is kept.
    key = (await house.post("/keys", {"name": "ci", "expires_at": "2026-01-01T00:00:03Z"}, ask)).json()
    assert (await house.get("/users/me", key["key"])).status_code == 200
    house.clock.advance(2.9)
    assert (await house.get("/users/me", key["key"])).status_code == 200
    house.clock.advance(0.1)
    expired = await house.get("/users/me", key["key"])
    never = await house.get("/users/me", "ygg_nothing")
    assert (expired.status_code, expired.content) == (401, never.content)
    late = await house.post(f"/keys/{key['key_id']}/rotate", {"overlap_seconds": 60}, ask)
    assert (late.status_code, late.json()["code"]) == (409, "conflict")
    assert (await house.delete(f"/keys/{key['key_id']}", ask)).status_code == 204


async def test_rotation_overlaps_for_as_long_as_asked(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    first = (await house.post("/keys", {"name": "ci", "models": ["tiny"]}, ask)).json()
    path = f"/keys/{first['key_id']}/rotate"
    second = (await house.post(path, {"overlap_seconds": 3}, ask)).json()
    assert second["key_id"] == first["key_id"]
    assert second["previous_until"] == "2026-01-01T00:00:03Z"
    for text in (first["key"], second["key"]):
        scope = await house.users.authenticate(f"Bearer {text}")
        assert (str(scope.key_id), scope.key_models) == (first["key_id"], ("tiny",))
    # The clock passes the overlap while the old text's lookup is still kept.
    house.clock.advance(3)
    assert (await house.get("/users/me", first["key"])).status_code == 401
    assert (await house.get("/users/me", second["key"])).status_code == 200
    assert (await house.get("/keys", ask)).json()["items"][0]["previous_until"] is None


async def test_rotation_without_overlap_ends_the_old_text_at_once_and_elsewhere_soon(house: House) -> None:
    other = house.another_node()
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    texts = [(await house.post("/keys", {"name": "ci"}, ask)).json()]
    path = f"/keys/{texts[0]['key_id']}/rotate"
    await other.authenticate(f"Bearer {texts[0]['key']}")
    await house.users.authenticate(f"Bearer {texts[0]['key']}")
    texts.append((await house.post(path, {"overlap_seconds": 0}, ask)).json())
    assert (await house.get("/users/me", texts[0]["key"])).status_code == 401
    house.clock.advance(house.users.settings.key_cache_seconds)
    with pytest.raises(Unauthenticated):
        await other.authenticate(f"Bearer {texts[0]['key']}")
    # Two rotations: only the last text and the one before it work.
    texts += [(await house.post(path, {"overlap_seconds": 604_800}, ask)).json() for _ in range(2)]
    codes = [(await house.get("/users/me", made["key"])).status_code for made in texts]
    assert codes == [401, 401, 200, 200]
    assert (await house.post(path, {"overlap_seconds": 604_801}, ask)).status_code == 400
    assert (await house.post(path, {"overlap_seconds": 60}, texts[-1]["key"])).status_code == 403
    await house.delete(f"/keys/{texts[0]['key_id']}", ask)
    codes = [(await house.get("/users/me", made["key"])).status_code for made in texts]
    assert codes == [401] * 4
    assert (await house.post(path, {"overlap_seconds": 60}, ask)).status_code == 404


async def test_a_lookup_that_a_rotation_overtook_is_not_kept(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    key = (await house.post("/keys", {"name": "ci"}, ask)).json()
    gate = house.users._gate
    seen, scope = gate.keys_seen, await house.users.authenticate(f"Bearer {key['key']}")
    await house.post(f"/keys/{key['key_id']}/rotate", {"overlap_seconds": 0}, ask)
    gate.keep_key(key["key"], scope, None, seen)
    assert gate.pass_key(key["key"]) is None


async def test_requests_that_come_together_look_a_key_up_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    key = (await house.post("/keys", {"name": "ci"}, ask)).json()
    authorization, asked, gone_on = f"Bearer {key['key']}", 0, asyncio.Event()
    look_up = house.users._keyring._look_up

    async def counted(text: str) -> Any:
        nonlocal asked
        asked += 1
        scope = await look_up(text)
        await asyncio.wait_for(gone_on.wait(), 30)
        return scope

    monkeypatch.setattr(house.users._keyring, "_look_up", counted)
    tasks = [asyncio.create_task(house.users.authenticate(authorization)) for _ in range(8)]
    other = asyncio.create_task(house.users.authenticate("Bearer ygg_nothing"))
    await asyncio.sleep(0)
    tasks[0].cancel()  # who leaves does not take the answer with him
    with pytest.raises(Unauthenticated):
        await other
    # A rotation meanwhile: whoever comes after it asks anew, and what came before is not enough for him.
    await house.post(f"/keys/{key['key_id']}/rotate", {"overlap_seconds": 0}, ask)
    with pytest.raises(Unauthenticated):
        await asyncio.wait_for(house.users.authenticate(authorization), 10)
    gone_on.set()
    scopes = await asyncio.gather(*tasks[1:])
    assert {str(scope.key_id) for scope in scopes} == {key["key_id"]}
    assert asked == 3
    assert not house.users._keyring._asked


async def test_a_stranger_cannot_rotate(house: House) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    embla = (await house.sign_in(EMBLA, Device()))["access_token"]
    key = (await house.post("/keys", {"name": "ci"}, ask)).json()
    foreign = await house.post(f"/keys/{key['key_id']}/rotate", {"overlap_seconds": 0}, embla)
    never = await house.post(f"/keys/{house.ids.uuid()}/rotate", {"overlap_seconds": 0}, embla)
    assert (foreign.status_code, foreign.content) == (404, never.content)
    assert (await house.get("/users/me", key["key"])).status_code == 200


async def test_last_uses_of_many_networks_are_written_together_and_seldom(house: House) -> None:
    """A job that finds nothing must not look green: it sees the keys of both networks."""
    people = [(await house.sign_in(mail, Device()))["access_token"] for mail in (ASK, EMBLA)]
    keys = [(await house.post("/keys", {"name": "ci"}, person)).json() for person in people]

    async def last_uses() -> list[str | None]:
        return [(await house.get("/keys", person)).json()["items"][0]["last_used_at"] for person in people]

    for key in keys:
        await house.get("/users/me", key["key"])
    await house.users.sweep()
    assert await last_uses() == [None, None]
    house.clock.advance(60)
    await house.users.sweep()
    assert await last_uses() == ["2026-01-01T00:00:00Z"] * 2
    # Another node saw an earlier use, and says so later: time does not go back.
    other = house.another_node()
    house.clock.advance(60)
    for _ in range(3):
        await house.get("/users/me", keys[0]["key"])
    await house.users.close()
    assert await last_uses() == ["2026-01-01T00:02:00Z", "2026-01-01T00:00:00Z"]
    house.clock.set(house.clock.now().replace(minute=1))
    await other.authenticate(f"Bearer {keys[0]['key']}")
    await other.close()
    assert (await last_uses())[0] == "2026-01-01T00:02:00Z"


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "a\nb", "a\u202eb", 7])
async def test_names_have_rules(house: House, name: object) -> None:
    ask = (await house.sign_in(ASK, Device()))["access_token"]
    assert (await house.post("/keys", {"name": name}, ask)).status_code == 400
    assert (await house.get("/keys", ask)).json()["items"] == []


async def test_when_a_last_use_shows_does_not_tell_whether_others_used_keys(house: House) -> None:
    """Its turn comes each minute, not a minute after the last use of anybody's."""
    person = (await house.sign_in(ASK, Device()))["access_token"]
    key = (await house.post("/keys", {"name": "ci"}, person)).json()

    async def last_use() -> str | None:
        return (await house.get("/keys", person)).json()["items"][0]["last_used_at"]

    house.clock.advance(200)
    await house.users.sweep()
    await house.get("/users/me", key["key"])
    await house.users.sweep()
    assert await last_use() is None
    house.clock.advance(60)
    await house.users.sweep()
    assert await last_use() == "2026-01-01T00:03:20Z"
