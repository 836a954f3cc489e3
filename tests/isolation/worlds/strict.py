"""Strict: the attacker alone, and the attacker among victims who do everything but trade.

Not done by the victims: asking for codes at the attacker's own addresses. Whoever gets a mail learns that
somebody knows the address; that is mail, not a border that this server could hold.
"""

from __future__ import annotations

import random

from tests.isolation.worlds.house import Ask, House
from tests.isolation.worlds.inputs import ATTACKER
from tests.isolation.worlds.pair import Pair, Side, first_steps, post
from tests.isolation.worlds.people import DEVICE_IDS, Person
from tests.isolation.worlds.ways import OFTEN, SELDOM, Maker

VICTIMS = 3


class Strict(Pair):
    """World `crowded` has victims with the same device ids, names, labels and keys of idempotency; the first
    one holds the very device keys of the attacker."""

    def __init__(self, alone: House, crowded: House, seed: int) -> None:
        super().__init__(alone, crowded, seed)
        self.crowded.others = [
            Person(f"victim{n}", seed, keys_of=ATTACKER if n == 0 else None) for n in range(VICTIMS)
        ]

    def arrange(self, early: int) -> None:
        for number in range(VICTIMS):
            if early >> number & 1:
                self.arrive(number)

    def arrive(self, number: int) -> None:
        """A victim settles in."""
        victim = self.crowded.others[number]
        self.script.append(f"{victim.name}: signs in, with a device, a method and a socket")
        self.crowded.house.run(settle(self.crowded, victim))

    def deeds(self, rng: random.Random, count: int) -> list[tuple[Person, Ask]]:
        return [self._deed(rng) for _ in range(count)]

    def stir(self, rng: random.Random) -> None:
        victim = self.crowded.others[rng.randrange(VICTIMS)]
        if victim.network_id is None:
            self.arrive(int(victim.name[-1]))
            return
        self.crowded.house.run(stay(self.crowded, victim))
        if rng.randrange(5) == 0:
            self.script.append(f"{victim.name}: a socket")
            self.crowded.house.run(self._socket(victim, rng))
            return
        person, ask = self._deed(rng, victim)
        self.script.append(f"{person.name}: {ask}")
        answer = self.crowded.house.run(self.crowded.as_other(person, ask))
        self.script[-1] += f" -> {answer.status}"

    def _deed(self, rng: random.Random, victim: Person | None = None) -> tuple[Person, Ask]:
        victim = victim or self.crowded.others[rng.randrange(VICTIMS)]
        others = [person for person in self.crowded.others if person is not victim]
        maker = Maker(victim, others, rng, trades=False, now=self.now())
        names = deed_names(self)
        return victim, maker.ask(self.ways[names[rng.randrange(len(names))]])

    async def _socket(self, victim: Person, rng: random.Random) -> None:
        live = [wire for wire in victim.wires if wire.open]
        if live and rng.randrange(2):
            live[rng.randrange(len(live))].hang_up()
        else:
            self.crowded.dial_as(victim, rng.randrange(len(DEVICE_IDS)))
        await self.crowded.house.loop.settle()


def deed_names(pair: Pair) -> list[str]:
    """Routes as often as they are of interest."""
    return [n for n in pair.ways if n not in SELDOM for _ in range(OFTEN.get(n, 1))] + sorted(
        n for n in SELDOM if n.startswith(("DELETE", "POST"))
    )


async def sign_in(side: Side, person: Person) -> None:
    """Somebody else signs in, at the first of his addresses with the first of his keys."""
    person.asked = 0, person.addresses[0]
    body = {"email": person.addresses[0], "device_key": person.public(0), "display_name": "Sam"}
    await side.as_other(person, post("/api/v1/users/register", body, None))
    flow = person.ready_flow(person.addresses[0])
    if flow is None:
        return
    code = person.codes.pop(flow)
    proof = person.verify_proof(0, flow, code)
    body = {"flow": flow, "code": code, "device_key": person.public(0), "proof": proof}
    await side.as_other(person, post("/api/v1/users/verify", body, None))


async def stay(side: Side, person: Person) -> None:
    """Somebody else stays signed in, or signs in again."""
    if person.access is not None and person.token_until > side.house.clock.monotonic() + 10:
        return
    person.access = None
    if person.refresh is not None:
        now = int(side.house.clock.now().timestamp())
        body = Maker(person, [], random.Random(0), trades=False, now=now).refresh()
        await side.as_other(person, post("/api/v1/users/refresh", body, None))
    if person.access is None:
        await sign_in(side, person)


async def settle(side: Side, person: Person, *, audience: str = "own") -> None:
    """Somebody else signs in, with two devices, money, a socket, a provider and a first request."""
    await sign_in(side, person)
    for path, body in first_steps(person):
        if path is None:
            side.dial_as(person, 0)
            await side.house.loop.settle()
        else:
            await side.as_other(person, post(path, body(audience), person.access))
    # A name that only this one has: the colliding ones do not show whether somebody else's is there.
    mine = person.registration(1, f"{person.name}.pc")
    await side.as_other(person, post("/api/v1/devices", mine, person.access))
