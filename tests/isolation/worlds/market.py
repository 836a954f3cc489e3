"""Market: both worlds share one tape of offers, arrivals and completions; who owns what differs.

Devices with their models and prices, and buyers with their requests, are slots of the tape. In each world a
partition of its own says which network a slot belongs to: permuted, split, merged. The attacker buys, sells
and looks. What it sees may depend on the tape (docs/decisions/0003), never on the partition.

The id of an offer is a digest of its owner's network and device key, and orders equals; so that worlds can be
compared byte by byte it is made of the device key alone here. It has 122 bits nobody can tell apart
from random ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from uuid import UUID

from tests.isolation.worlds.house import Ask, House
from tests.isolation.worlds.pair import Pair, Side, post
from tests.isolation.worlds.people import DeviceWire, Person
from tests.isolation.worlds.strict import sign_in, stay
from yggdrasil.marketplace import providers
from yggdrasil.marketplace.canaries import Canaries
from yggdrasil.marketplace.requests import Offer
from yggdrasil.wire.proof import encode_bytes

SELLERS = 4
TRADERS = SELLERS + 3
DEVICES = 5
BUYERS = 4
TAPE_MODELS = ("tiny", "small")
WALLET_CENTS = 100_000


def _group_without_owner(_network_id: UUID, device_key: bytes) -> bytes:
    return sha256(b"tape" + device_key).digest()[:16]


class Market(Pair):
    """`owner_of(side, slot)` is the partition."""

    def __init__(self, alone: House, crowded: House, seed: int) -> None:
        self._undo = _with_tape_ids()
        super().__init__(alone, crowded, seed)
        rng = random.Random(f"{seed} partitions")
        self.slots = [f"device{n}" for n in range(DEVICES)] + [f"buyer{n}" for n in range(BUYERS)]
        self.owners: dict[int, dict[str, int]] = {}
        self.people: dict[int, dict[str, Person]] = {}
        for side in (self.alone, self.crowded):
            side.others = [Person(f"trader{n}", seed) for n in range(TRADERS)]
            self.owners[id(side)] = _partition(rng, self.slots)
            self.people[id(side)] = {slot: Person(slot, seed) for slot in self.slots}
        # What is for sale is on the tape: prices differ, so that no tie hides an order.
        prices = random.Random(f"{seed} prices").sample(range(1, 40), DEVICES)
        self.prices = dict(zip(self.slots, prices, strict=False))

    def end(self) -> None:
        try:
            super().end()
        finally:
            self._undo()

    def arrange(self, early: int) -> None:
        told = [
            f"{name}: " + ", ".join(f"{slot} is trader{self.owners[id(side)][slot]}'s" for slot in self.slots)
            for name, side in (("alone", self.alone), ("crowded", self.crowded))
        ]
        self.script += told
        self._both(self._found)
        for number in range(DEVICES):
            if early >> number & 1:
                self._enter(number)

    def stir(self, rng: random.Random) -> None:
        self._both(self._stay)
        choice, number = rng.randrange(10), rng.randrange(DEVICES)
        if choice < 5:
            self._arrival(rng)
        elif choice < 7:
            self._enter(number)
        elif choice < 8:
            self._leave(number)
        else:
            self._change(number, {"status": rng.choice(("paused", "active", "active"))})

    # ---- the tape ----------------------------------------------------------------------------------------

    def _both(self, act: Callable[[Side], Any]) -> None:
        for side in (self.crowded, self.alone):
            side.house.run(act(side))

    async def _found(self, side: Side) -> None:
        for person in side.others:
            await sign_in(side, person)

            async def send(path: str, person: Person = person, **body: object) -> None:
                answer = await side.as_other(person, post(path, body, person.access))
                assert answer.status is None or answer.status < 300, (path, answer)

            await send("/api/v1/payments/methods", kind="sandbox", purpose="both", gateway_token="sandbox_ok")
            method = person.known["method_id"][-1]
            await send(f"/api/v1/payments/methods/{method}/verify")
            await send(
                "/api/v1/payments/process",
                method_id=method,
                amount_cents=WALLET_CENTS,
                idempotency_key="first",
            )

    async def _stay(self, side: Side) -> None:
        for person in side.others:
            await stay(side, person)

    def _as(self, side: Side, slot: str) -> Person:
        """The slot, with the credentials of the network that owns it here."""
        person, owner = self.people[id(side)][slot], side.others[self.owners[id(side)][slot]]
        person.access, person.network_id = owner.access, owner.network_id
        return person

    async def _send(self, side: Side, slot: str, ask: Callable[[Person], Ask]) -> None:
        person = self._as(side, slot)
        await side.as_other(person, ask(person))

    def _enter(self, number: int) -> None:
        """A device comes online, and is registered if it was not."""
        slot = self.slots[number]
        self.script.append(f"tape: {slot} comes online with {self._models(number)}")

        async def enter(side: Side) -> None:
            person = self._as(side, slot)
            if not person.known.get("device_id"):
                await side.as_other(
                    person, post("/api/v1/devices", self._device(person, slot), person.access)
                )
            if not any(wire.open for wire in person.wires):
                wire = DeviceWire(
                    device_id=slot, key=person.keys[0], token=person.access or "none", serves="well"
                )
                person.wires = [wire]
                side.house.dial(slot, wire)
                await side.house.loop.settle()
            if not person.known.get("provider_id"):
                body = {
                    "device_id": slot,
                    "models": self._models(number),
                    "audience": "market",
                    "capacity_jobs": 2,
                }
                await side.as_other(
                    person, post("/api/v1/marketplace/providers/register", body, person.access)
                )

        self._both(enter)

    def _leave(self, number: int) -> None:
        slot = self.slots[number]
        self.script.append(f"tape: {slot} goes offline")

        async def leave(side: Side) -> None:
            for wire in self.people[id(side)][slot].wires:
                if wire.open:
                    wire.hang_up()
            await side.house.loop.settle()

        self._both(leave)

    def _change(self, number: int, change: dict[str, Any]) -> None:
        slot = self.slots[number]
        self.script.append(f"tape: {slot} becomes {change}")

        async def change_it(side: Side) -> None:
            person = self._as(side, slot)
            for provider in person.known.get("provider_id", [])[-1:]:
                made = post(f"/api/v1/marketplace/providers/{provider}", change, person.access)
                await side.as_other(person, Ask("PUT", made.path, "", made.headers, made.body))

        self._both(change_it)

    def _arrival(self, rng: random.Random) -> None:
        slot, model = self.slots[DEVICES + rng.randrange(BUYERS)], rng.choice(TAPE_MODELS)
        body = {
            "kind": "chat",
            "request": {
                "model": model,
                "messages": [{"role": "user", "content": rng.choice(("hello", "what is new?"))}],
                "max_tokens": rng.choice((16, 64)),
            },
        }
        self.script.append(f"tape: {slot} asks for {model}")

        async def arrive(side: Side) -> None:
            await self._send(
                side, slot, lambda person: post("/api/v1/marketplace/requests", body, person.access)
            )

        self._both(arrive)

    def _models(self, number: int) -> list[dict[str, Any]]:
        price = self.prices[self.slots[number]]
        return [{"model": TAPE_MODELS[number % 2], "price_cents": price, "rounding": "per_statement"}]

    def _device(self, person: Person, slot: str) -> dict[str, Any]:
        return {
            "device_id": slot,
            "name": slot,
            "world": "Alfheim",
            "device_key": encode_bytes(person.keys[0].public_key().public_bytes_raw()),
            "proof": person.registration_proof(0, slot),
            "hardware": {"memory_gib": 32},
        }


def _partition(rng: random.Random, slots: list[str]) -> dict[str, int]:
    """Which trader owns each slot: one for all, one for each few, or anything between. Nobody buys where he
    sells: whose work a network may not take, its own, would change which offer serves an arrival, and who
    serves whom is on the tape."""
    sellers, buyers = rng.randrange(1, SELLERS + 1), rng.randrange(1, TRADERS - SELLERS + 1)
    return {
        slot: rng.randrange(sellers) if slot.startswith("device") else SELLERS + rng.randrange(buyers)
        for slot in slots
    }


def _with_tape_ids() -> Callable[[], None]:
    """Offers are named by their device key alone, and drawn for tests in the order of their names, not of the
    hashes of their owners; until the answer is called."""
    module: Any = providers
    group_of, sorted_out = module.group_of, Canaries._sorted_out

    async def in_order(self: Canaries) -> tuple[list[Offer], list[Offer]]:
        healing, for_all = await sorted_out(self)
        return sorted(healing, key=lambda o: o.id), sorted(for_all, key=lambda o: o.id)

    module.group_of, Canaries._sorted_out = _group_without_owner, in_order  # type: ignore[method-assign]

    def undo() -> None:
        module.group_of, Canaries._sorted_out = group_of, sorted_out  # type: ignore[method-assign]

    return undo
