"""Network ID hand-over by a mailed code: what is given, to whom, for how long, and what is refused."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.support import as_superuser
from tests.users.conftest import Device, House, all_at_once, other_code
from tests.users.hand_over import Away, register
from yggdrasil.db.address import Login
from yggdrasil.users.gate import Revocation
from yggdrasil.wire.proof import decode_bytes, encode_bytes

ASK = "ask@example.org"
NOBODY = "nobody@example.org"


async def test_a_code_hands_the_home_network_over(house: House) -> None:
    home = await house.sign_in(ASK, Device())
    away = Away()
    asked, code = await away.ask(house, ASK)
    taken = await away.take(house, asked["flow"], code)
    assert (taken.status_code, taken.json()["state"]) == (200, "given")
    assert taken.headers["cache-control"] == "no-store"
    for secret in (home["network_id"], home["user_id"]):
        assert secret not in taken.text
    parcel = away.open(asked["flow"], taken.json()["sealed"])
    assert parcel["network_id"] == home["network_id"]
    assert parcel["role"] == "owner"
    me = (await house.get("/users/me", parcel["access_token"])).json()
    assert (me["network_id"], me["user_id"]) == (home["network_id"], home["user_id"])
    renewed = await house.post("/users/refresh", away.refresh_body(parcel["refresh_token"], house.at))
    assert renewed.status_code == 200
    listed = (await house.get("/users/me/hand-overs", home["access_token"])).json()["items"]
    assert [one["hand_over_id"] for one in listed] == [parcel["hand_over_id"]]
    assert (listed[0]["state"], listed[0]["device_name"], listed[0]["proven_by"]) == (
        "open",
        "hotel tablet",
        "code",
    )
    assert listed[0]["device_key"] == away.key_text
    notice = house.inbox.mails[-1]
    assert notice.to == ASK
    assert parcel["hand_over_id"] in notice.text
    assert "hotel tablet" in notice.text


async def test_known_and_unknown_addresses_have_one_answer(house: House, admin: Login) -> None:
    await house.sign_in(ASK, Device())
    shapes = []
    for email in (ASK, NOBODY):
        away = Away()
        answer = await house.post("/users/hand-overs/ask", away.ask_body(email, house.at))
        await house.users.postman.drain()
        body = answer.json()
        mail = house.inbox.mails[-1]
        assert mail.to == email
        waiting = await away.take(house, body["flow"])
        wrong = await away.take(house, body["flow"], "00000000")
        headers = sorted(name for name in answer.headers if name not in ("date", "content-length"))
        shapes.append(
            (answer.status_code, sorted(body), headers, mail.subject, waiting.text, wrong.status_code)
        )
        # An attacker's words are in no mail that he can have sent.
        assert "hotel tablet" not in mail.text
    assert shapes[0] == shapes[1]
    # Even its right code founds nothing.
    away = Away()
    asked, code = await away.ask(house, NOBODY)
    refused = await away.take(house, asked["flow"], code)
    assert (refused.status_code, refused.json()["code"]) == (401, "code_rejected")
    rows = await as_superuser(house.database, admin, "SELECT count(*) AS n FROM identity.accounts")
    assert rows == [{"n": 1}]


async def refusals(house: House) -> dict[str, Any]:
    """Every way to be refused, and what is answered."""
    await house.sign_in(ASK, Device())
    found: dict[str, Any] = {}
    away = Away()
    asked, code = await away.ask(house, ASK)
    flow = asked["flow"]
    found["unknown"] = await away.take(house, str(house.ids.uuid()), code)
    found["another device"] = await Away().take(house, flow, code)
    found["wrong"] = await away.take(house, flow, other_code(code))
    assert (await away.take(house, flow, code)).status_code == 200
    found["used"] = await away.take(house, flow, code)
    found["used, without a code"] = await away.take(house, flow)
    other, code = await away.ask(house, ASK)
    found["another ask's code"] = await away.take(house, other["flow"], other_code(code, 7))
    house.clock.advance(600)
    found["expired"] = await away.take(house, other["flow"], code)
    found["expired, without a code"] = await away.take(house, other["flow"])
    return found


async def test_all_refusals_are_one(house: House) -> None:
    found = await refusals(house)
    answers = {(one.status_code, one.text) for one in found.values()}
    assert len(answers) == 1, {name: one.text for name, one in found.items()}
    status, text = answers.pop()
    assert status == 401
    assert "code_rejected" in text


async def test_a_code_serves_one_purpose(house: House) -> None:
    """Neither a sign-in's flow and code hand over, nor the other way round, nor across the signed labels."""
    device = Away()
    await house.sign_in(ASK, device)
    flow, code = await house.start(ASK, device)
    assert (await device.take(house, flow, code)).status_code == 401
    assert (await house.verify(device, flow, code)).status_code == 200
    asked, handing = await device.ask(house, ASK)
    assert (await house.verify(device, asked["flow"], handing)).status_code == 401
    # The proof of the one is no proof of the other.
    crossed = device.take_body(asked["flow"], handing) | {
        "proof": device.verify_body(asked["flow"], handing)["proof"]
    }
    answer = await house.post("/users/hand-overs/take", crossed)
    assert (answer.status_code, answer.json()["field"]) == (400, "proof")
    assert (await device.take(house, asked["flow"], handing)).status_code == 200


async def test_a_burst_of_guesses_is_evaluated_five_times(house: House) -> None:
    await house.sign_in(ASK, Device())
    away = Away()
    asked, code = await away.ask(house, ASK)
    guesses = await all_at_once(*(away.take(house, asked["flow"], other_code(code, n)) for n in range(1, 41)))
    assert {answer.status_code for answer in guesses} == {401}
    # The right one comes too late, and so does another ask's: the address' counter outlives the ask.
    assert (await away.take(house, asked["flow"], code)).status_code == 401
    other = Away()
    fresh, right = await other.ask(house, ASK)
    assert (await other.take(house, fresh["flow"], right)).status_code == 401


async def test_tries_count_for_both_kinds_of_code(house: House) -> None:
    """Or an attacker who does not hold a known device would have two purses of guesses."""
    await house.sign_in(ASK, Device())
    stranger = Away()
    flow, code = await house.start(ASK, stranger)
    for n in range(1, 6):
        assert (await house.verify(stranger, flow, other_code(code, n))).status_code == 401
    asked, right = await stranger.ask(house, ASK)
    assert (await stranger.take(house, asked["flow"], right)).status_code == 401


async def test_asks_are_limited_and_count_as_mailed_codes(house: House) -> None:
    for email in (ASK, NOBODY):
        away = Away()
        for _ in range(5):
            await away.ask(house, email)
        refused = await house.post("/users/hand-overs/ask", away.ask_body(email, house.at))
        assert (refused.status_code, refused.json()["code"]) == (429, "limit_reached")
        assert int(refused.headers["retry-after"]) > 0
        assert (await house.post("/users/login", away.login_body(email))).status_code == 429
        # Another stranger does not learn of it: answered as ever, and no more is mailed.
        before = len(house.inbox.mails)
        answer = await house.post("/users/hand-overs/ask", Away().ask_body(email, house.at))
        await house.users.postman.drain()
        assert (answer.status_code, len(house.inbox.mails)) == (202, before)


async def test_of_two_that_race_one_gets_it(house: House) -> None:
    await house.sign_in(ASK, Device())
    away, thief = Away(), Away()
    asked, code = await away.ask(house, ASK)
    flow = asked["flow"]
    answers = await all_at_once(*(device.take(house, flow, code) for device in (away, thief) * 4))
    given = [answer for answer in answers if answer.status_code == 200]
    assert len(given) == 1
    assert away.opens(flow, given[0].json()["sealed"])
    assert not thief.opens(flow, given[0].json()["sealed"])


async def test_a_parcel_opens_nowhere_else(house: House) -> None:
    """Replayed to another device, in another ask, or with any bit flipped, it stays shut."""
    await house.sign_in(ASK, Device())
    away = Away()
    asked, code = await away.ask(house, ASK)
    flow, sealed = asked["flow"], (await away.take(house, asked["flow"], code)).json()["sealed"]
    assert away.opens(flow, sealed)  # the control
    assert not Away().opens(flow, sealed)
    assert not Away(away.private).opens(flow, sealed)  # the device key alone does not open
    assert not Away(sealing=away.sealing).opens(flow, sealed)  # nor the sealing key on another device
    assert not away.opens(str(house.ids.uuid()), sealed)
    raw = bytearray(decode_bytes(sealed, len(sealed) * 3 // 4, "sealed"))
    for place in range(len(raw)):
        if place in range(32, len(raw) - 16, 7) or place < 31 or place >= len(raw) - 16:
            raw[place] ^= 1
            assert not away.opens(flow, encode_bytes(bytes(raw))), place
            raw[place] ^= 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sealing_key": "A" * 43}, "sealing_key"),
        ({"device_name": "\u202egnp.exe"}, "device_name"),
        ({"email": "no address"}, "email"),
        ({"proof": "A" * 86}, "proof"),
        ({"device_name": "another"}, "proof"),
    ],
)
async def test_a_bad_ask_names_its_field(house: House, change: dict[str, Any], field: str) -> None:
    answer = await house.post("/users/hand-overs/ask", Away().ask_body(ASK, house.at) | change)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    await house.users.postman.drain()
    assert house.inbox.mails == []


async def test_a_sealing_key_cannot_be_swapped(house: House) -> None:
    """Whoever sits in between cannot have the parcel sealed to a key of their own."""
    body = Away().ask_body(ASK, house.at) | {"sealing_key": Away().ask_body(ASK, house.at)["sealing_key"]}
    answer = await house.post("/users/hand-overs/ask", body)
    assert (answer.status_code, answer.json()["field"]) == (400, "proof")


async def test_an_old_ask_cannot_be_replayed(house: House) -> None:
    body = Away().ask_body(ASK, house.at)
    house.clock.advance(301)
    answer = await house.post("/users/hand-overs/ask", body)
    assert (answer.status_code, answer.json()["field"]) == (400, "at_seconds")


async def test_it_ends_by_itself_however_often_it_is_refreshed(house: House) -> None:
    home = await house.sign_in(ASK, Device())
    away = Away()
    parcel = await away.handed(house, ASK)
    token = parcel["refresh_token"]
    for _ in range(23):
        house.clock.advance(3600)
        answer = await house.post("/users/refresh", away.refresh_body(token, house.at))
        assert answer.status_code == 200
        token = answer.json()["refresh_token"]
    assert answer.json()["refresh_expires_in_seconds"] == 3600
    access = answer.json()["access_token"]
    house.clock.advance(299)
    assert (await house.get("/users/me", access)).status_code == 200
    house.clock.advance(3600 - 299)
    assert (await house.get("/users/me", access)).status_code == 401
    assert (await house.post("/users/refresh", away.refresh_body(token, house.at))).status_code == 401
    fresh = await house.sign_in(ASK, Device())
    listed = (await house.get("/users/me/hand-overs", fresh["access_token"])).json()["items"]
    assert [one["state"] for one in listed] == ["ended"]
    assert home["network_id"] == parcel["network_id"]


async def test_revoking_ends_it_at_once_here_and_on_another_node(house: House) -> None:
    home = await house.sign_in(ASK, Device())
    away = Away()
    parcel = await away.handed(house, ASK)
    elsewhere = house.another_node()
    await elsewhere.start()
    told: list[Revocation] = []
    house.users.on_revoked.append(told.append)
    path = f"/users/me/hand-overs/{parcel['hand_over_id']}"
    assert (await house.delete(path, home["access_token"])).status_code == 204
    assert [str(one.session_id) for one in told] == [parcel["session_id"]]
    assert (await house.get("/users/me", parcel["access_token"])).status_code == 401
    refused = await house.post("/users/refresh", away.refresh_body(parcel["refresh_token"], house.at))
    assert refused.status_code == 401
    heard: list[Revocation] = []
    elsewhere.on_revoked.append(heard.append)
    await elsewhere.sweep()
    assert str(parcel["session_id"]) in {str(one.session_id) for one in heard}
    await elsewhere.close()
    # Home is not touched, and saying it twice is no error.
    assert (await house.get("/users/me", home["access_token"])).status_code == 200
    assert (await house.delete(path, home["access_token"])).status_code == 204
    (one,) = (await house.get("/users/me/hand-overs", home["access_token"])).json()["items"]
    assert (one["state"], one["revoked_by"]) == ("revoked", home["user_id"])


async def test_revoked_while_it_refreshes(house: House) -> None:
    """Whichever comes first, afterwards nothing of it works."""
    for _ in range(4):
        home = await house.sign_in(ASK, Device())
        away = Away()
        parcel = await away.handed(house, ASK)
        path = f"/users/me/hand-overs/{parcel['hand_over_id']}"
        body = away.refresh_body(parcel["refresh_token"], house.at)
        *renewed, gone = await all_at_once(
            *(house.post("/users/refresh", body) for _ in range(3)), house.delete(path, home["access_token"])
        )
        assert gone.status_code == 204
        tokens = [parcel["access_token"]]
        for answer in renewed:
            if answer.status_code == 200:
                tokens.append(answer.json()["access_token"])
                later = away.refresh_body(answer.json()["refresh_token"], house.at)
                assert (await house.post("/users/refresh", later)).status_code == 401
        for token in tokens:
            assert (await house.get("/users/me", token)).status_code == 401
        house.clock.advance(1000)


async def test_a_device_away_cannot_make_what_outlives_it(house: House) -> None:
    home = await house.sign_in(ASK, Device())
    away = Away()
    parcel = await away.handed(house, ASK)
    token = parcel["access_token"]
    key = (await house.post("/keys", {"name": "home"}, home["access_token"])).json()["key_id"]
    await register(house, parcel, away, "away")
    asked, _ = await Away().ask(house, ASK)
    answers = [
        await house.post("/keys", {"name": "x"}, token),
        await house.post(f"/keys/{key}/rotate", {"overlap_seconds": 0}, token),
        await house.delete(f"/keys/{key}", token),
        await house.delete("/users/me", token),
        await house.get("/users/me/hand-over-asks", token),
        await house.delete(f"/users/me/hand-over-asks/{asked['flow']}", token),
        await house.delete(f"/users/me/hand-overs/{parcel['hand_over_id']}", token),
    ]
    assert [answer.status_code for answer in answers] == [403] * len(answers)
    # It may leave by itself.
    assert (await house.post("/users/logout", None, token)).status_code == 204
    (one,) = (await house.get("/users/me/hand-overs", home["access_token"])).json()["items"]
    assert one["state"] == "ended"


async def test_the_oldest_beyond_the_limit_end(house: House) -> None:
    await house.sign_in(ASK, Device())
    parcels = []
    for _ in range(9):
        parcels.append(await Away().handed(house, ASK))
        house.clock.advance(901)
        home = await house.sign_in(ASK, Device())
    listed = (await house.get("/users/me/hand-overs", home["access_token"])).json()["items"]
    states = {one["hand_over_id"]: one["state"] for one in listed}
    assert [states[one["hand_over_id"]] for one in parcels] == ["ended"] + ["open"] * 8
    first = (await house.get("/users/me/hand-overs?limit=5", home["access_token"])).json()
    rest = await house.get(f"/users/me/hand-overs?limit=5&cursor={first['next']}", home["access_token"])
    assert [one["hand_over_id"] for one in first["items"] + rest.json()["items"]] == [
        one["hand_over_id"] for one in reversed(parcels)
    ]


async def test_an_erased_person_leaves_nothing(house: House, admin: Login) -> None:
    home = await house.sign_in(ASK, Device())
    parcel = await Away().handed(house, ASK)
    await Away().ask(house, ASK)
    assert (await house.delete("/users/me", home["access_token"])).status_code == 204
    assert (await house.get("/users/me", parcel["access_token"])).status_code == 401
    assert await as_superuser(house.database, admin, "SELECT * FROM tenant.hand_overs") == []
    house.clock.advance(601)
    await house.users.sweep()
    assert await as_superuser(house.database, admin, "SELECT * FROM identity.hand_over_asks") == []


async def test_nothing_that_opens_a_network_is_stored(house: House, admin: Login) -> None:
    away = Away()
    await house.sign_in(ASK, Device())
    asked, code = await away.ask(house, ASK)
    sealed = (await away.take(house, asked["flow"], code)).json()["sealed"]
    parcel = away.open(asked["flow"], sealed)
    for table in ("identity.hand_over_asks", "tenant.hand_overs", "identity.sessions"):
        rows = str(await as_superuser(house.database, admin, f"SELECT * FROM {table}"))
        for secret in (code, sealed, parcel["refresh_token"], parcel["access_token"], ASK):
            assert secret not in rows


async def test_a_handed_over_device_is_not_known_by_it(house: House, admin: Login) -> None:
    """It would be counted apart from strangers, and is one."""
    await house.sign_in(ASK, Device())
    away = Away()
    await away.handed(house, ASK)
    rows = await as_superuser(house.database, admin, "SELECT device_key FROM identity.known_devices")
    assert away.key not in [row["device_key"] for row in rows]


async def test_a_token_that_another_node_ended_makes_nothing_in_that_moment(house: House) -> None:
    """The gate of this node has not heard of it yet; the row tells."""
    home = await house.sign_in(ASK, Device())
    parcel = await Away().handed(house, ASK)
    elsewhere = house.another_node()
    session = await elsewhere.authenticate(f"Bearer {home['access_token']}")
    await elsewhere.at_home.revoke(session, UUID(parcel["hand_over_id"]))
    answer = await house.post("/keys", {"name": "x"}, parcel["access_token"])
    assert answer.status_code == 401
    await elsewhere.close()
