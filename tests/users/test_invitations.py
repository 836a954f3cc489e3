"""Invitations: bound to an address and a secret, once, for a while; and one answer to everybody else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support import as_superuser
from tests.users.conftest import Device, House, all_at_once
from tests.users.people import Person, invitation_in, member, person
from yggdrasil.db.address import Login
from yggdrasil.users import invitations
from yggdrasil.users.settings import DAY_SECONDS


def shape(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status_code, answer.content, sorted(answer.headers.items())


async def test_an_invited_person_joins_with_the_role_and_the_name_given(house: House, admin: Login) -> None:
    ask, embla = await person(house, "ask"), await person(house, "embla")
    text = await ask.invite("Embla@Example.org", "guest", name="Ask's house & friends")
    mail = house.inbox.mails[-1]
    assert mail.to == embla.email
    assert "Ask's house & friends" in mail.text
    assert ask.email not in mail.text
    assert ask.network_id not in mail.text
    assert ask.user_id not in mail.text

    joined = await embla.accept(text)
    assert joined.status_code == 201, joined.text
    assert joined.json()["name"] == "Ask's house & friends"
    assert (joined.json()["network_id"], joined.json()["role"]) == (ask.network_id, "guest")
    mine = (await embla.get("/users/me/networks")).json()["items"]
    assert [(one["network_id"], one["name"], one["role"]) for one in mine] == [
        (embla.network_id, None, "owner"),
        (ask.network_id, "Ask's house & friends", "guest"),
    ]
    # The token at hand goes on speaking for the home network alone.
    assert (await embla.get("/users/me")).json()["network_id"] == embla.network_id
    inside = await embla.inside(ask.network_id)
    me = (await inside.get("/users/me")).json()
    assert (me["network_id"], me["role"], me["email"]) == (ask.network_id, "guest", embla.email)
    row = await as_superuser(
        house.database,
        admin,
        "SELECT accepted_key, invited_by::text FROM identity.memberships"
        " WHERE network_id = $1 AND role = 'guest'",
        ask.network_id,
    )
    assert row == [{"accepted_key": embla.device.key, "invited_by": ask.user_id}]


async def test_an_address_without_an_account_is_invited_the_same(house: House) -> None:
    ask = await person(house, "ask")
    await person(house, "embla")
    answers = [
        await ask.post("/members/invitations", {"email": email, "role": "member", "name": "House"})
        for email in ("embla@example.org", "edgar@example.org")
    ]
    known, new = (answer.json() for answer in answers)
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].headers == answers[1].headers
    for one in (known, new):
        assert len(one.pop("invitation_id")) == 36
        assert one.pop("email").endswith("@example.org")
    assert known == new
    await house.users.postman.drain()
    text = invitation_in(house)
    edgar = await person(house, "edgar")
    assert (await edgar.accept(text)).status_code == 201


async def test_everybody_else_gets_one_answer(house: House) -> None:
    """The secret with another address, the address without the secret, used, revoked, expired, foreign."""
    ask, embla, loki = [await person(house, name) for name in ("ask", "embla", "loki")]
    text = await ask.invite(embla.email)
    said = invitations.parse(text)
    assert said is not None

    def made(network: Any = None, invitation: Any = None, secret: bytes | None = None) -> str:
        return invitations.Invitation(
            network or said.network_id, invitation or said.invitation_id, secret or said.secret
        ).text()

    other = invitations.parse(await loki.invite("nobody@example.org"))
    assert other is not None
    never = house.ids.uuid()
    answers = {
        "a stranger with the secret": await loki.accept(text),
        "the address without the secret": await embla.accept(made(secret=bytes(32))),
        "another network's invitation id": await embla.accept(made(invitation=other.invitation_id)),
        "another network": await embla.accept(made(network=other.network_id)),
        "a network that never was": await embla.accept(made(network=never)),
        "an invitation that never was": await embla.accept(made(invitation=never)),
        "another's invitation": await embla.accept(other.text()),
        "no invitation at all": await embla.accept("ygi_" + "A" * 86),
        "not even its form": await embla.accept("hello"),
    }
    house.clock.advance(6 * DAY_SECONDS)
    for one in (ask, embla, loki):
        one.tokens = await house.sign_in(one.email, one.device)
    revoked = await ask.invite("loki@example.org")
    mine = (await ask.get("/members/invitations")).json()["items"]
    assert [one["email"] for one in mine] == [embla.email, loki.email]
    assert (await ask.delete(f"/members/invitations/{mine[1]['invitation_id']}")).status_code == 204
    assert (await ask.delete(f"/members/invitations/{mine[1]['invitation_id']}")).status_code == 404
    answers["revoked"] = await loki.accept(revoked)
    assert (await embla.accept(text)).status_code == 201  # the control, on its last day
    assert (await embla.delete(f"/users/me/networks/{ask.network_id}")).status_code == 204
    answers["used"] = await embla.accept(text)
    late = await ask.invite(embla.email)
    house.clock.advance(7 * DAY_SECONDS)
    for one in (ask, embla, loki):
        one.tokens = await house.sign_in(one.email, one.device)
    answers["expired"] = await embla.accept(late)
    assert (await ask.get("/members/invitations")).json()["items"] == []

    one = shape(answers["an invitation that never was"])
    assert one[0] == 404
    assert {name for name, answer in answers.items() if shape(answer) != one} == set()


async def test_accepting_is_signed_by_the_key_of_the_session(house: House) -> None:
    ask, embla = await person(house, "ask"), await person(house, "embla")
    text = await ask.invite(embla.email)
    for body in (
        embla.accept_body(text, Device()),  # the token alone is stolen
        embla.accept_body(text) | {"at_seconds": house.at - 1},
        embla.accept_body(text) | {"at_seconds": house.at - 400},
        embla.accept_body("ygi_" + "A" * 86) | {"invitation": text},
    ):
        answer = await embla.post("/users/me/networks", body)
        assert answer.status_code == 400, answer.text
    key = (await embla.post("/keys", {"name": "app"})).json()["key"]
    for path in ("/users/me/networks", "/members", "/members/invitations"):
        assert (await house.get(path, key)).status_code == 403
    assert (await house.post("/users/me/networks", embla.accept_body(text), key)).status_code == 403
    assert (await embla.accept(text)).status_code == 201


async def test_the_newest_invitation_of_an_address_counts(house: House) -> None:
    ask, embla = await person(house, "ask"), await person(house, "embla")
    first = await ask.invite(embla.email, "member")
    second = await ask.invite("EMBLA@example.org", "guest")
    assert len((await ask.get("/members/invitations")).json()["items"]) == 1
    assert (await embla.accept(first)).status_code == 404
    assert (await embla.accept(second)).json()["role"] == "guest"
    third = await ask.invite(embla.email, "member")
    assert (await embla.accept(third)).status_code == 409  # a member already, and told so


async def test_two_accepts_at_once_join_once(house: House, admin: Login) -> None:
    ask, embla = await person(house, "ask"), await person(house, "embla")
    for _ in range(5):
        text = await ask.invite(embla.email)
        answers = await all_at_once(*(embla.accept(text) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [201, 404, 404, 404]
        rows = await as_superuser(
            house.database,
            admin,
            "SELECT count(*) AS n FROM identity.memberships WHERE user_id = $1",
            embla.user_id,
        )
        assert rows == [{"n": 2}]
        assert (await embla.delete(f"/users/me/networks/{ask.network_id}")).status_code == 204


async def test_revoked_while_accepting_has_one_outcome(house: House) -> None:
    ask, embla = await person(house, "ask"), await person(house, "embla")
    for _ in range(4):
        text = await ask.invite(embla.email)
        (one,) = (await ask.get("/members/invitations")).json()["items"]
        accepted, revoked = await all_at_once(
            embla.accept(text), ask.delete(f"/members/invitations/{one['invitation_id']}")
        )
        assert (accepted.status_code, revoked.status_code) in ((201, 404), (404, 204))
        in_it = len((await embla.get("/users/me/networks")).json()["items"]) == 2
        assert in_it == (accepted.status_code == 201)
        if in_it:
            await embla.delete(f"/users/me/networks/{ask.network_id}")


async def test_limits_are_the_network_s_own(house: House) -> None:
    ask = await person(house, "ask")
    for number in range(20):
        await ask.invite(f"friend{number}@example.org")
    body = {"email": "more@example.org", "role": "member", "name": "House"}
    answer = await ask.post("/members/invitations", body)
    assert answer.status_code == 429
    assert "20 invitations are open" in answer.json()["detail"]
    await ask.invite("friend3@example.org")  # replaces its own
    loki = await person(house, "loki")
    assert (await loki.post("/members/invitations", body)).status_code == 201
    items = (await ask.get("/members/invitations")).json()["items"]
    for one in items:
        assert (await ask.delete(f"/members/invitations/{one['invitation_id']}")).status_code == 204
    for number in range(29):
        text = await ask.invite(f"again{number % 10}@example.org")
    answer = await ask.post("/members/invitations", body)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3600"
    house.clock.advance(DAY_SECONDS + 1)
    ask.tokens = await house.sign_in(ask.email, ask.device)
    assert (await ask.post("/members/invitations", body)).status_code == 201
    assert text.startswith("ygi_")


async def test_nobody_is_mailed_at_for_ever_and_nobody_is_told(house: House) -> None:
    """The sixth mail of a day to one address is not sent; its inviter cannot tell from the fifth's."""
    owners = [await person(house, f"owner{number}") for number in range(7)]
    body = {"email": "victim@example.org", "role": "member", "name": "House"}
    answers = [await owner.post("/members/invitations", body) for owner in owners]
    await house.users.postman.drain()
    assert sum(mail.to == "victim@example.org" for mail in house.inbox.mails) == 5
    seen = [
        (
            answer.status_code,
            dict(answer.headers),
            {k: v for k, v in answer.json().items() if not k.endswith(("_id", "by"))},
        )
        for answer in answers
    ]
    assert seen[0][0] == 201
    assert all(one == seen[0] for one in seen)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "no address"}, "email"),
        ({"name": ""}, "name"),
        ({"name": "http://evil.example"}, "name"),
        ({"name": "see evil.example"}, "name"),
        ({"name": "line\nbreak"}, "name"),
        ({"name": "x" * 41}, "name"),
        ({"role": "owner"}, "role"),
        ({"expires_in_seconds": 3599}, "expires_in_seconds"),
        ({"expires_in_seconds": 30 * DAY_SECONDS + 1}, "expires_in_seconds"),
    ],
)
async def test_bad_input_is_named_and_invites_nobody(
    house: House, change: dict[str, Any], field: str
) -> None:
    ask = await person(house, "ask")
    mails = len(house.inbox.mails)
    answer = await ask.post(
        "/members/invitations", {"email": "e@example.org", "role": "guest", "name": "House"} | change
    )
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    await house.users.postman.drain()
    assert len(house.inbox.mails) == mails
    assert (await ask.get("/members/invitations")).json()["items"] == []


async def test_nobody_invites_above_the_own_role(house: House) -> None:
    ask = await person(house, "ask")
    expected = {
        "owner": {"admin": 201, "member": 201, "guest": 201},
        "admin": {"admin": 403, "member": 201, "guest": 201},
        "member": {"admin": 403, "member": 403, "guest": 403},
        "guest": {"admin": 403, "member": 403, "guest": 403},
    }
    people: dict[str, Person] = {"owner": ask}
    for role in ("admin", "member", "guest"):
        _, people[role] = await member(ask, f"the-{role}", role)
    for role, wanted in expected.items():
        for given, status in wanted.items():
            body = {"email": "new@example.org", "role": given, "name": "House"}
            answer = await people[role].post("/members/invitations", body)
            assert answer.status_code == status, (role, given, answer.text)
            if status == 403:
                needed = "owner" if role == "admin" else "admin"
                assert f"needs the role {needed}" in answer.json()["detail"]
    (open_one,) = (await ask.get("/members/invitations")).json()["items"]
    path = f"/members/invitations/{open_one['invitation_id']}"
    assert (await people["member"].delete(path)).status_code == 403
    stranger = await person(house, "loki")
    foreign = await stranger.delete(path)
    never = await stranger.delete(f"/members/invitations/{house.ids.uuid()}")
    assert shape(foreign) == shape(never)
    assert foreign.status_code == 404
    assert (await people["admin"].delete(path)).status_code == 204


async def test_what_an_admin_invited_to_ends_with_the_role(house: House) -> None:
    ask = await person(house, "ask")
    _, admin_of = await member(ask, "embla", "admin")
    edgar = await person(house, "edgar")
    text = await admin_of.invite(edgar.email)
    assert (await ask.put(f"/members/{admin_of.user_id}", {"role": "member"})).status_code == 200
    assert (await edgar.accept(text)).status_code == 404
    assert (await ask.get("/members/invitations")).json()["items"] == []


async def test_an_invitation_holds_no_address(house: House, admin: Login) -> None:
    """Not in the main database, nor in the vault once it has ended; two networks' digests share nothing."""
    ask, loki, embla = [await person(house, name) for name in ("ask", "loki", "embla")]
    text = await ask.invite(embla.email)
    await loki.invite(embla.email)
    rows = await as_superuser(house.database, admin, "SELECT * FROM tenant.invitations")
    assert len({row["address_key"] for row in rows}) == 2
    assert not any("embla" in str(row) or text[-43:] in str(row) for row in rows)
    assert (await embla.accept(text)).status_code == 201
    async with house.vault.transaction() as tx:
        left = [row["flow"] for row in await tx.fetch("SELECT flow FROM vault.flows")]
    assert left == [row["invitation_id"] for row in rows if str(row["network_id"]) == loki.network_id]
    house.clock.advance(61 * DAY_SECONDS)
    await house.users.sweep()
    assert await as_superuser(house.database, admin, "SELECT * FROM tenant.invitations") == []
    async with house.vault.transaction() as tx:
        assert await tx.fetch("SELECT flow FROM vault.flows") == []
