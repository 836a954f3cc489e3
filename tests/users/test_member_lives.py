"""Random lives of three people in each other's networks, held against a few dictionaries.

After every step each token and key that was ever issued is tried: it passes exactly if its holder is a
member of its network, has been since it was issued, and a token says the role of now.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from uuid import UUID

import httpx
import pytest

from tests.users.conftest import House
from tests.users.people import Person, person
from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import Role
from yggdrasil.users.roles import Action, manages, may
from yggdrasil.users.service import Users

STEPS = 60
ROLES = ("admin", "member", "guest")


@dataclass
class Issued:
    """A token or key, and the membership it was issued in: its number, and how often its role had changed."""

    text: str
    network: str
    user: str
    number: int
    changes: int | None = None
    """None: a key, which acts by the role of now."""
    until: float = float("inf")


@dataclass
class World:
    """Who is what where. `number` counts memberships, so that coming back is another one."""

    people: dict[str, Person]
    roles: dict[tuple[str, str], str] = field(default_factory=dict)
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    changes: dict[tuple[str, str], int] = field(default_factory=dict)
    invited: dict[str, tuple[str, str, str, str]] = field(default_factory=dict)
    issued: list[Issued] = field(default_factory=list)

    def join(self, network: str, user: str, role: str) -> None:
        at = network, user
        self.roles[at] = role
        self.numbers[at] = self.numbers.get(at, 0) + 1
        self.changes[at] = 0

    def part(self, network: str, user: str) -> None:
        del self.roles[network, user]
        self.uninvite(network, user)

    def uninvite(self, network: str, by: str) -> None:
        self.invited = {text: one for text, one in self.invited.items() if (one[0], one[1]) != (network, by)}

    def lives(self, one: Issued) -> bool:
        at = one.network, one.user
        return at in self.roles and self.numbers[at] == one.number and one.changes in (None, self.changes[at])


def ok(answer: httpx.Response, allowed: bool, otherwise: set[int]) -> bool:
    """Whether it was done; it must be done exactly if it is allowed."""
    expected = {200, 201, 204} if allowed else otherwise
    assert answer.status_code in expected, (answer.status_code, expected, answer.text)
    return allowed


@pytest.mark.parametrize("seed", range(4))
async def test_lives(house: House, seed: int) -> None:
    object.__setattr__(house.users.settings, "invitation_mails_max", 10_000)
    object.__setattr__(house.users.settings, "invitations_per_day_max", 10_000)
    object.__setattr__(house.users.settings, "sessions_max", 10_000)
    chance = random.Random(house.ids.seed + seed)
    other_node = house.another_node()
    await other_node.start()
    world = World({})
    inside: dict[tuple[str, str], Person] = {}
    for name in ("ask", "embla", "edgar"):
        one = await person(house, name)
        world.people[one.user_id] = one
        world.join(one.network_id, one.user_id, "owner")
        await enter(house, world, inside, one.network_id, one.user_id)
    owners = {one.network_id: user for user, one in world.people.items()}
    done: dict[str, int] = {}
    for _ in range(STEPS):
        network, user = chance.choice(list(world.roles))
        target = chance.choice(list(world.people))
        role = chance.choice(ROLES)
        actor = inside[network, user]
        mine, theirs = world.roles[network, user], world.roles.get((network, target))
        what = chance.choice(("invite", "accept", "accept", "change", "remove", "leave", "key", "wait"))
        if what == "invite":
            allowed = may(Role(mine), manages(Role(role)))
            email = world.people[target].email
            body = {"email": email, "role": role, "name": "House"}
            if ok(await actor.post("/members/invitations", body), allowed, {403}):
                await house.users.postman.drain()
                world.invited = {
                    text: one for text, one in world.invited.items() if (one[0], one[2]) != (network, target)
                }
                text = house.inbox.mails[-1].text.split("ygi_")[1][:86]
                world.invited["ygi_" + text] = (network, user, target, role)
        elif what == "accept" and world.invited:
            text = chance.choice(list(world.invited))
            to, _, invited, given = world.invited[text]
            already = (to, target) in world.roles
            answer = await world.people[target].accept(text)
            if ok(answer, target == invited and not already, {404} if target != invited else {409}):
                del world.invited[text]
                world.join(to, target, given)
                await enter(house, world, inside, to, target)
        elif what in ("change", "remove"):
            path = f"/members/{target}"
            answer = await (actor.put(path, {"role": role}) if what == "change" else actor.delete(path))
            manager = may(Role(mine), Action.MEMBERS)
            allowed = (
                manager
                and theirs is not None
                and theirs != "owner"
                and target != user
                and may(Role(mine), manages(Role(theirs)))
                and (what == "remove" or may(Role(mine), manages(Role(role))))
            )
            if ok(answer, allowed, {404} if manager and theirs is None else {403}):
                if what == "remove":
                    world.part(network, target)
                elif theirs != role:
                    world.roles[network, target] = role
                    world.changes[network, target] += 1
                    world.uninvite(network, target)
                    await enter(house, world, inside, network, target, refresh=True)
        elif what == "leave":
            answer = await world.people[user].delete(f"/users/me/networks/{network}")
            if ok(answer, owners[network] != user, {409}):
                world.part(network, user)
        elif what == "key":
            text = (await actor.post("/keys", {"name": "x"})).json()["key"]
            world.issued.append(Issued(text, network, user, world.numbers[network, user]))
        else:
            house.clock.advance(chance.choice((1, 20, 100)))
            await house.users.sweep()
            for at in list(world.roles):
                await enter(house, world, inside, *at, refresh=True)
        done[what] = done.get(what, 0) + 1
        await other_node.sweep()
        await all_tried(house, other_node, world)
    assert len(done) >= 6, done


async def enter(
    house: House,
    world: World,
    inside: dict[tuple[str, str], Person],
    network: str,
    user: str,
    *,
    refresh: bool = False,
) -> None:
    """Fresh tokens of a member."""
    at = network, user
    home = world.people[user]
    if refresh:
        answer = await inside[at].refresh()
        assert answer.status_code == 200, answer.text
        inside[at].tokens = answer.json()
    elif network == home.network_id:
        inside[at] = home
    else:
        home.tokens = (await home.refresh()).json()
        inside[at] = await home.inside(network)
    tokens = inside[at].tokens
    assert (tokens["role"], tokens["network_id"]) == (world.roles[at], network)
    world.issued.append(
        Issued(
            tokens["access_token"],
            network,
            user,
            world.numbers[at],
            world.changes[at],
            house.clock.now().timestamp() + tokens["expires_in_seconds"],
        )
    )


async def all_tried(house: House, other_node: Users, world: World) -> None:
    """On both nodes; tokens that are over by their own time are forgotten."""
    now = house.clock.now().timestamp()
    world.issued = [one for one in world.issued if one.until > now]
    for one in world.issued:
        lives = world.lives(one)
        for node in (house.users, other_node):
            try:
                scope = await node.authenticate(f"Bearer {one.text}")
            except Unauthenticated:
                assert not lives, one
            else:
                assert lives, one
                assert (scope.network_id, scope.user_id) == (UUID(one.network), UUID(one.user))
                assert scope.role.value == world.roles[one.network, one.user]
