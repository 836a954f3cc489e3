"""Members: two people of one network, for what belongs to the user.

In both worlds the other member is there, with a device online; in one of them nothing more comes of it. In
the other one the member does what is nobody else's business: keys, sessions, the name, providers and requests
of the audience `own`, reading and searching. What belongs to the network (devices, money, payment methods,
what is shared in it) both may see, so the member leaves that alone: `SHARED` says why, route by route.
"""

from __future__ import annotations

import random

from tests.isolation.worlds.house import Ask, House
from tests.isolation.worlds.pair import Pair, Side, first_steps, post
from tests.isolation.worlds.people import DEVICE_IDS, Person
from tests.isolation.worlds.strict import deed_names, sign_in, stay
from tests.isolation.worlds.ways import SELDOM, Maker
from yggdrasil.kernel import Role

OTHER_DEVICE = "others.pc"
ROLES = (Role.MEMBER, Role.GUEST, Role.ADMIN, Role.OWNER)
SHARED = {
    "POST /api/v1/devices": "devices are the network's: every member may list them",
    "PUT /api/v1/devices/{device_id}": "as above",
    "DELETE /api/v1/devices/{device_id}": "as above",
    "POST /api/v1/payments/methods": "payment methods are the network's",
    "POST /api/v1/payments/methods/{method_id}/verify": "as above",
    "DELETE /api/v1/payments/methods/{method_id}": "as above",
    "POST /api/v1/payments/process": "the wallet is the network's",
    "DELETE /api/v1/users/me": "who leaves takes devices along, which are the network's",
    "POST /api/v1/users/logout": "closes the session's socket, and who is online is the network's",
    "POST /api/v1/users/register": "a new session beyond the limit would end the one of the socket",
    "POST /api/v1/users/login": "as above",
    "POST /api/v1/users/verify": "as above",
    "POST /api/v1/users/hand-overs/ask": "mails whom it names; owners see what is handed over",
    "POST /api/v1/users/hand-overs/take": "as above",
    "POST /api/v1/users/refresh": "the same token twice ends the session and its socket, as a log-out does",
    "PUT /api/v1/users/me": "owners and admins see what a member is called",
    "POST /api/v1/users/switch": "as a sign-in: a session more, and beyond the limit one less",
    "DELETE /api/v1/users/me/networks/{network_id}": "who leaves takes devices along",
    "PUT /api/v1/members/{user_id}": "owners and admins say what the attacker may, who is to notice it",
    "DELETE /api/v1/members/{user_id}": "as above",
    "PUT /api/v1/marketplace/providers/{provider_id}": "owners and admins change another's provider too",
    "DELETE /api/v1/marketplace/providers/{provider_id}": "as above",
    "POST /api/v1/members/invitations": "invitations are the network's: owners and admins list them",
    "DELETE /api/v1/members/invitations/{invitation_id}": "as above",
}
"""What the other member does not do, and why it would rightly show."""


NETWORKS_OWN = {
    "GET /api/v1/users/me/limits": "counts the network's requests and bytes, whoever's they are",
    "GET /api/v1/audit": "the chain is the network's: owners and admins read every member's events",
    "GET /api/v1/audit/head": "as above: its number counts them",
}
"""What is not compared between members, and why."""


class Members(Pair):
    """The attacker has any role; the other member founded the network, or is an admin beside an owner."""

    trades = False

    def __init__(self, alone: House, crowded: House, seed: int) -> None:
        super().__init__(alone, crowded, seed)
        self.ways = {name: way for name, way in self.ways.items() if name not in NETWORKS_OWN}
        self.role = ROLES[seed // 3 % len(ROLES)]
        for side in (self.alone, self.crowded):
            side.others = [Person("other", seed)]

    def arrange(self, early: int) -> None:
        self.script.append(
            f"other: founds a network, with a device online; the attacker joins as {self.role}"
        )
        for side in (self.crowded, self.alone):
            side.house.run(self._found(side))

    def sign_in(self) -> None:
        """The first time, the attacker's account is moved into the other's network."""
        super().sign_in()
        joined = [side.house.run(self._join(side)) for side in (self.crowded, self.alone)]
        if any(joined):
            super().sign_in()

    def deeds(self, rng: random.Random, count: int) -> list[tuple[Person, Ask]]:
        return [self._deed(rng) for _ in range(count)]

    def stir(self, rng: random.Random) -> None:
        for side in (self.crowded, self.alone):
            side.house.run(stay(side, side.others[0]))
        person, ask = self._deed(rng)
        self.script.append(f"other: {ask}")
        answer = self.crowded.house.run(self.crowded.as_other(person, ask))
        self.script[-1] += f" -> {answer.status}"

    def _deed(self, rng: random.Random) -> tuple[Person, Ask]:
        other = self.crowded.others[0]
        names = [name for name in deed_names(self) if name not in SHARED and name not in SELDOM]
        maker = OwnMaker(other, [self.me], rng, trades=False, now=self.now())
        return other, maker.ask(self.ways[names[rng.randrange(len(names))]])

    async def _found(self, side: Side) -> None:
        other = side.others[0]
        await sign_in(side, other)
        for path, body in first_steps(other):
            if path is None:
                side.dial_as(other, 0, device_id=OTHER_DEVICE)
                await side.house.loop.settle()
                return
            document = body("own")
            if path == "/api/v1/devices":
                document = other.registration(0, OTHER_DEVICE)
            if path != "/api/v1/keys":
                await side.as_other(other, post(path, document, other.access))

    async def _join(self, side: Side) -> bool:
        """By SQL, as an invitation would: the account is at home in the other's network."""
        network, me = side.others[0].network_id, side.attacker
        if me.network_id is None or me.network_id == network:
            return False
        user = me.known["user_id"][-1]
        if self.role is Role.OWNER:  # there is one: the other was it, and is an admin from now on
            await side.house.sql(
                "UPDATE identity.memberships SET role = 'admin' WHERE network_id = $1::text::uuid", network
            )
        await side.house.sql(
            "INSERT INTO identity.memberships (network_id, user_id, role, created_at)"
            " VALUES ($1::text::uuid, $2::text::uuid, $3, $4)",
            network,
            user,
            self.role.value,
            side.house.clock.now(),
        )
        await side.house.sql(
            "UPDATE identity.accounts SET home_network_id = $1::text::uuid WHERE user_id = $2::text::uuid",
            network,
            user,
        )
        return True


class OwnMaker(Maker):
    """What is for oneself alone."""

    def audience(self) -> str:
        return "own"

    def scope(self) -> str:
        return "own"

    def device_id(self) -> str:
        return OTHER_DEVICE if self.chance(80) else str(self.one(*DEVICE_IDS))
