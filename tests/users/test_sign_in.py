"""Sign-in end to end: one answer for everybody, few guesses, one use, nobody locked out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.users.conftest import Device, House, all_at_once, code_in, other_code
from yggdrasil.users import codes, signin

ASK = "ask@example.org"


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The codes that were compared."""
    seen: list[str] = []

    def matches(pepper: bytes, flow: Any, device_key: bytes, code: str, digest: bytes) -> bool:
        seen.append(code)
        return codes.code_matches(pepper, flow, device_key, code, digest)

    class Spied:
        CODE_DIGITS = codes.CODE_DIGITS
        CODE_SECRET_BYTES = codes.CODE_SECRET_BYTES
        code_matches = staticmethod(matches)

        def __getattr__(self, name: str) -> Any:
            return getattr(codes, name)

    monkeypatch.setattr(signin, "codes", Spied())
    return seen


async def test_register_verify_me_refresh_logout(house: House) -> None:
    device = Device()
    answer = await house.post(
        "/users/register", device.login_body("Ask@Example.ORG") | {"display_name": " Ask "}
    )
    assert answer.status_code == 202
    await house.users.postman.drain()
    assert house.inbox.mails[-1].to == ASK
    signed_in = await house.verify(device, answer.json()["flow"], code_in(house.inbox.mails[-1]))
    assert signed_in.status_code == 200
    tokens = signed_in.json()
    assert tokens["token_type"] == "Bearer"
    assert tokens["role"] == "owner"
    assert signed_in.headers["cache-control"] == "no-store"

    me = (await house.get("/users/me", tokens["access_token"])).json()
    assert me["email"] == ASK
    assert me["display_name"] == "Ask"
    assert me["user_id"] == tokens["user_id"]
    assert me["network_id"] == tokens["network_id"]
    renamed = await house.put("/users/me", {"display_name": "Embla"}, tokens["access_token"])
    assert renamed.json()["display_name"] == "Embla"

    house.clock.advance(200)
    fresh = (
        await house.post("/users/refresh", device.refresh_body(tokens["refresh_token"], house.at))
    ).json()
    assert fresh["refresh_token"] != tokens["refresh_token"]
    house.clock.advance(150)
    assert (await house.get("/users/me", tokens["access_token"])).status_code == 401
    assert (await house.get("/users/me", fresh["access_token"])).status_code == 200

    assert (await house.post("/users/logout", None, fresh["access_token"])).status_code == 204
    assert (await house.get("/users/me", fresh["access_token"])).status_code == 401
    refused = await house.post("/users/refresh", device.refresh_body(fresh["refresh_token"], house.at))
    assert refused.status_code == 401


async def test_signing_in_again_is_the_same_person(house: House) -> None:
    first = await house.sign_in(ASK, Device())
    again = await house.sign_in("ASK@example.org", Device())
    other = await house.sign_in("embla@example.org", Device())
    assert again["user_id"] == first["user_id"]
    assert again["network_id"] == first["network_id"]
    assert other["network_id"] != first["network_id"]


async def test_known_and_unknown_addresses_get_the_same_bytes(house: House) -> None:
    await house.sign_in(ASK, Device())
    for path in ("/users/login", "/users/register"):
        known = await house.post(path, Device().login_body(ASK))
        unknown = await house.post(path, Device().login_body("nobody@example.org"))
        assert known.status_code == unknown.status_code == 202
        hide = lambda answer: answer.text.replace(answer.json()["flow"], "-")  # noqa: E731
        assert hide(known) == hide(unknown)
        assert dict(known.headers) == dict(unknown.headers)
    await house.users.postman.drain()
    shapes = {(mail.subject, mail.text.replace(code_in(mail), "-")) for mail in house.inbox.mails}
    assert len(shapes) == 1


async def test_no_account_before_the_proof(house: House) -> None:
    await house.start(ASK, Device())
    async with house.vault.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM vault.subjects") == 0


async def test_a_burst_of_guesses_is_evaluated_five_times(house: House, evaluated: list[str]) -> None:
    device = Device()
    flow, code = await house.start(ASK, device)
    guesses = [house.verify(device, flow, other_code(code, by)) for by in range(1, 201)]
    answers = await all_at_once(*guesses)
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert len(evaluated) == 5
    right = await house.verify(device, flow, code)
    assert right.status_code == 401
    assert right.json()["code"] == "code_rejected"
    assert len(evaluated) == 5


async def test_a_new_code_does_not_give_the_tries_back(house: House, evaluated: list[str]) -> None:
    device = Device()
    flow, code = await house.start(ASK, device)
    for by in (1, 2, 3):
        await house.verify(device, flow, other_code(code, by))
    flow, code = await house.start(ASK, device)
    for by in (1, 2):
        await house.verify(device, flow, other_code(code, by))
    assert len(evaluated) == 5
    assert (await house.verify(device, flow, code)).status_code == 401
    assert len(evaluated) == 5
    house.clock.advance(house.users.settings.window_seconds)
    assert (await house.verify(device, *await house.start(ASK, device))).status_code == 200


async def test_the_day_has_a_limit_too(house: House, evaluated: list[str]) -> None:
    limit = house.users.settings.tries_per_day_max
    for _ in range(limit // 5 + 2):
        device = Device()
        flow, code = await house.start(ASK, device)
        for by in range(1, 6):
            await house.verify(device, flow, other_code(code, by))
        house.clock.advance(house.users.settings.window_seconds)
    assert len(evaluated) == limit


async def test_strangers_cannot_lock_out_the_known_device(house: House, evaluated: list[str]) -> None:
    owner, stranger, newcomer = Device(), Device(), Device()
    await house.sign_in(ASK, owner)
    flow, code = await house.start(ASK, stranger)
    for by in range(1, 8):
        await house.verify(stranger, flow, other_code(code, by))
    while (await house.post("/users/login", stranger.login_body(ASK))).status_code == 202:
        pass
    # Strangers have spent the address' tries and mails: a new device must wait, the owner's need not.
    await house.users.postman.drain()
    mails = len(house.inbox.mails)
    assert (await house.post("/users/login", newcomer.login_body(ASK))).status_code == 202
    await house.users.postman.drain()
    assert len(house.inbox.mails) == mails
    assert (await house.verify(owner, *await house.start(ASK, owner, known=True))).status_code == 200


async def test_naming_the_owners_key_without_holding_it_is_no_use(house: House, evaluated: list[str]) -> None:
    owner, thief = Device(), Device()
    await house.sign_in(ASK, owner)
    claimed = thief.login_body(ASK, house.at) | {"device_key": owner.key_text}
    assert (await house.post("/users/login", claimed)).json()["field"] == "proof"
    flow = (await house.post("/users/login", {"email": ASK, "device_key": owner.key_text})).json()["flow"]
    forged = thief.verify_body(flow, "00000000") | {"device_key": owner.key_text}
    before = len(evaluated)
    for _ in range(6):
        assert (await house.post("/users/verify", forged)).status_code == 400
    assert len(evaluated) == before
    await house.users.postman.drain()
    assert (await house.verify(owner, flow, code_in(house.inbox.mails[-1]))).status_code == 200


async def test_a_code_belongs_to_its_flow_and_its_device(house: House) -> None:
    device, other = Device(), Device()
    flow_1, code_1 = await house.start(ASK, device)
    flow_2, code_2 = await house.start(ASK, other)
    assert (await house.verify(device, flow_1, code_2)).status_code == 401
    assert (await house.verify(other, flow_1, code_1)).status_code == 401
    assert (await house.verify(other, flow_2, code_2)).status_code == 200
    assert (await house.verify(device, flow_1, code_1)).status_code == 200


async def test_a_code_expires(house: House) -> None:
    device = Device()
    flow, code = await house.start(ASK, device)
    house.clock.advance(house.users.settings.code_seconds)
    expired = await house.verify(device, flow, code)
    unknown = await house.verify(device, str(house.ids.uuid()), code)
    assert expired.status_code == unknown.status_code == 401
    assert expired.text == unknown.text


async def test_a_code_works_once_under_a_race(house: House) -> None:
    device = Device()
    flow, code = await house.start(ASK, device)
    answers = await all_at_once(*(house.verify(device, flow, code) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19


async def test_two_sign_ins_of_a_new_address_at_once_make_one_person(house: House) -> None:
    devices = [Device() for _ in range(4)]
    started = [await house.start(ASK, device) for device in devices]
    answers = await all_at_once(
        *(house.verify(device, *flow) for device, flow in zip(devices, started, strict=True))
    )
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.json()["user_id"] for answer in answers}) == 1
    assert len({answer.json()["network_id"] for answer in answers}) == 1


async def test_the_right_code_gives_its_try_back(house: House) -> None:
    for _ in range(5):
        await house.sign_in(ASK, Device())
    house.clock.advance(1)
    await house.users.postman.drain()
    mails = len(house.inbox.mails)
    assert (await house.post("/users/login", Device().login_body(ASK))).status_code == 202
    await house.users.postman.drain()
    assert len(house.inbox.mails) == mails, "the address has had its mails"


async def test_who_asks_does_not_learn_that_others_ask(house: House) -> None:
    """The limit that one meets counts what one asked for oneself, known address or not, asked by
    others or not."""
    asked_by_others, by_nobody = ASK, "nobody@example.org"
    await house.sign_in(asked_by_others, Device())
    for _ in range(7):
        await house.post("/users/login", Device().login_body(asked_by_others))
    answers = {}
    for address in (asked_by_others, by_nobody):
        device = Device()
        asked = [await house.post("/users/login", device.login_body(address)) for _ in range(7)]
        answers[address] = [(one.status_code, one.headers.get("retry-after")) for one in asked]
    seconds = str(house.users.settings.window_seconds)
    assert answers[by_nobody] == [(202, None)] * 5 + [(429, seconds)] * 2
    assert answers[asked_by_others] == answers[by_nobody]


async def test_a_crash_after_the_claim_is_finished_by_the_next_sign_in(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()

    async def die(*_: Any) -> None:
        raise RuntimeError("the process died here")

    flow, code = await house.start(ASK, device)
    with monkeypatch.context() as patch:
        patch.setattr(house.mimir, "activate", die)
        assert (await house.verify(device, flow, code)).status_code == 500
    async with house.vault.transaction() as tx:
        assert await tx.fetchval("SELECT state FROM vault.subjects") == "pending"
    tokens = await house.sign_in(ASK, device)
    async with house.vault.transaction() as tx:
        row = await tx.fetchrow("SELECT subject, state FROM vault.subjects")
    assert row is not None
    assert (str(row["subject"]), row["state"]) == (tokens["user_id"], "active")


@pytest.mark.parametrize("founded", [True, False])
async def test_the_sweep_ends_pending(house: House, monkeypatch: pytest.MonkeyPatch, founded: bool) -> None:
    device = Device()

    async def die(*_: Any) -> None:
        raise RuntimeError("the process died here")

    flow, code = await house.start(ASK, device)
    with monkeypatch.context() as patch:
        if founded:
            patch.setattr(house.mimir, "activate", die)
        else:
            patch.setattr(house.users._signin, "_found", die)
        assert (await house.verify(device, flow, code)).status_code == 500
    await house.users.sweep()
    async with house.vault.transaction() as tx:
        assert await tx.fetchval("SELECT state FROM vault.subjects") == "pending"
    house.clock.advance(house.users.settings.pending_seconds + 1)
    await house.users.sweep()
    async with house.vault.transaction() as tx:
        # Founded: the person did prove the address, so the sign-in is finished. Else: nothing stays.
        state = await tx.fetchval("SELECT state FROM vault.subjects")
        assert state == ("active" if founded else "erased")
        assert await tx.fetchval("SELECT count(*) FROM vault.fields") == (1 if founded else 0)
        assert await tx.fetchval("SELECT count(*) FROM vault.flows") == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "no-at-sign.example.org"}, "email"),
        ({"email": "a@b.example\nBcc: x@y.example"}, "email"),
        ({"device_key": "AAAA"}, "device_key"),
        ({"device_key": "!" * 43}, "device_key"),
        ({"at_seconds": 1}, "proof"),
        ({"surprise": 1}, None),
        ({"email": None}, None),
        ({"email": "x" * 255}, None),
    ],
)
async def test_bad_input_names_the_field_and_changes_nothing(
    house: House, change: dict[str, Any], field: str | None
) -> None:
    answer = await house.post("/users/login", Device().login_body(ASK) | change)
    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_input"
    if field is not None:
        assert answer.json()["field"] == field
    assert not house.inbox.mails
    async with house.vault.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM vault.flows") == 0


async def test_asking_in_the_name_of_the_owners_key_does_not_spend_its_codes(house: House) -> None:
    owner = Device()
    await house.sign_in(ASK, owner)
    unproven = owner.login_body(ASK)
    while (await house.post("/users/login", unproven)).status_code == 202:
        pass
    assert (await house.verify(owner, *await house.start(ASK, owner, known=True))).status_code == 200
