"""What requests are made of: ids, addresses, proofs and bodies that make sense, and some that do not."""

from __future__ import annotations

import random
import typing
from typing import Any
from uuid import UUID

from tests.isolation.worlds.people import DEVICE_IDS, MODELS, Person
from yggdrasil.users.codes import refresh_message, start_message, switch_message
from yggdrasil.users.invitations import accept_message
from yggdrasil.wire import hand_over
from yggdrasil.wire.proof import encode_bytes

MALFORMED = ("", "x", "..", "%00", "0" * 32, "ü", "a" * 300, "offer_" + "0" * 31)
NEVER = ("7e57ed00-0000-4000-8000-000000000000", "offer_" + "7e" * 16, "never-there")


class Parts:
    """Makes the parts of one person's requests. `others`: whose ids are guessed. `trades`: whether it may
    deal with other networks."""

    def __init__(
        self, me: Person, others: list[Person], rng: random.Random, *, trades: bool, now: int
    ) -> None:
        self.me, self.others, self.rng, self.trades, self.now = me, others, rng, trades, now

    def one(self, *values: Any) -> Any:
        return values[self.rng.randrange(len(values))]

    def chance(self, percent: int) -> bool:
        return self.rng.randrange(100) < percent

    def id(self, kind: str) -> str:
        """Mostly of this kind: one's own, another's, one that never was, a malformed one."""
        choice = self.rng.randrange(100)
        if choice < 50 and (mine := self.me.known.get(kind)):
            return self.one(*mine)
        if choice < 90:
            theirs = [value for other in self.others for value in other.known.get(kind, ())]
            if not theirs or choice >= 87:
                theirs = [v for other in self.others for kept in other.known.values() for v in kept]
            if theirs:
                return self.one(*theirs)
        if choice < 96:
            return self.one(*NEVER)
        return self.one(*MALFORMED)

    def key_number(self) -> int:
        return self.one(0, 0, 1, 2)

    def device_id(self) -> str:
        return self.one(*DEVICE_IDS) if self.chance(70) else self.id("device_id")

    def address(self) -> str:
        """One's own, or another's: the codes go there, not to the asker."""
        if self.chance(50) or not self.others:
            return self.one(*self.me.addresses)
        return self.one(*self.one(*self.others).addresses)

    def start(self) -> dict[str, Any]:
        number, address = self.key_number(), self.address()
        self.me.asked = number, address
        body: dict[str, Any] = {"email": address, "device_key": self.me.public(number)}
        if self.chance(50):
            key = self.me.own_keys[number]
            signed = key.sign(start_message(key.public_key().public_bytes_raw(), self.now, address))
            body |= {"at_seconds": self.now, "proof": encode_bytes(signed)}
        return body

    def flow_and_code(self) -> tuple[str, int, str]:
        """(flow, number of the key, code): one's own that fit, or a guess."""
        flow = self.me.ready_flow()
        if flow is not None and self.chance(60):
            return flow, self.me.flows[flow][0], self.me.codes.pop(flow)
        return self.id("flow"), self.key_number(), str(self.one("00000000", "12345678"))

    def verify(self) -> dict[str, Any]:
        flow, number, code = self.flow_and_code()
        try:
            proof = self.me.verify_proof(number, flow, code)
        except ValueError:
            proof = "A" * 86
        return {"flow": flow, "code": code, "device_key": self.me.public(number), "proof": proof}

    def refresh(self) -> dict[str, Any]:
        token = self.me.refresh or "ygr_" + "A" * 91
        number = 0 if self.chance(95) else 1
        proof = encode_bytes(self.me.own_keys[number].sign(refresh_message(token, self.now)))
        return {"refresh_token": token, "at_seconds": self.now, "proof": proof}

    def switch(self) -> dict[str, Any]:
        token, network = self.me.refresh or "ygr_" + "A" * 91, self.id("network_id")
        try:
            message = switch_message(token, UUID(network), self.now)
        except ValueError:
            message = b"no network"
        proof = encode_bytes(self.me.own_keys[0].sign(message))
        return {"refresh_token": token, "network_id": network, "at_seconds": self.now, "proof": proof}

    def acceptance(self) -> dict[str, Any]:
        text = "ygi_" + self.one("A", "B") * 86
        proof = encode_bytes(self.me.own_keys[0].sign(accept_message(text, self.now)))
        return {"invitation": text, "at_seconds": self.now, "proof": proof}

    def hand_over_ask(self) -> dict[str, Any]:
        number, address = self.key_number(), self.address()
        self.me.asked = number, address
        key, sealing_key = self.me.own_keys[number], self.me.sealing_key
        public = key.public_key().public_bytes_raw()
        signed = key.sign(hand_over.ask_message(public, sealing_key, self.now, address, "Desk"))
        return {
            "email": address,
            "device_key": encode_bytes(public),
            "sealing_key": encode_bytes(sealing_key),
            "device_name": "Desk",
            "at_seconds": self.now,
            "proof": encode_bytes(signed),
        }

    def hand_over_take(self) -> dict[str, Any]:
        flow, number, code = self.flow_and_code()
        body = {"flow": flow, "device_key": self.me.public(number)}
        if self.chance(70):
            body["code"] = code
        try:
            message = hand_over.take_message(UUID(flow), body.get("code"))
        except ValueError:
            return {**body, "proof": "A" * 86}
        return {**body, "proof": encode_bytes(self.me.own_keys[number].sign(message))}

    def hand_over_approval(self) -> dict[str, Any]:
        return {"check": self.one("000000", "123456"), "at_seconds": self.now, "proof": "A" * 86}

    def device(self) -> dict[str, Any]:
        number = self.rng.randrange(len(DEVICE_IDS))
        device_id, choice = DEVICE_IDS[number], self.rng.randrange(100)
        if choice >= 70:
            device_id = f"{self.me.name}.pc" if choice < 90 else self.id("device_id")
        return {
            **self.me.registration(number, device_id),
            "name": self.one("Desk", "Pocket"),
            "world": self.one("Alfheim", "Midgard", "Asgard"),
            "hardware": {"memory_gib": self.one(8, 32, 128)},
        }

    def audience(self) -> str:
        return self.one("own", "network", "market", "market") if self.trades else self.one("own", "network")

    def scope(self) -> str:
        return self.one("own", "network", "market", "market") if self.trades else self.one("own", "network")

    def terms(self) -> list[dict[str, Any]]:
        names = self.rng.sample(MODELS, self.one(1, 1, 2))
        return [
            {
                "model": name,
                "kind": "embeddings" if name == "embedder" else "chat",
                "price_cents": self.one(0, 1, 3, 7),
                "rounding": self.one("per_request", "per_statement"),
            }
            for name in names
        ]

    def provider(self) -> dict[str, Any]:
        return {
            "device_id": self.device_id(),
            "models": self.terms(),
            "audience": self.audience(),
            "capacity_jobs": self.one(1, 2, 8),
        }

    def changed_provider(self) -> dict[str, Any]:
        choices: list[dict[str, Any]] = [
            {"status": self.one("active", "paused", "draining")},
            {"capacity_jobs": self.one(1, 4)},
            {"audience": self.audience()},
            {"models": self.terms()},
            {"hours": [{"days": ["mon", "thu"], "from": "00:00", "to": "12:00"}], "zone": "Europe/Berlin"},
        ]
        return typing.cast("dict[str, Any]", self.one(*choices))

    def wishes(self) -> dict[str, Any]:
        made: dict[str, Any] = {"scope": self.scope()}
        if self.chance(25):
            made[self.one("only", "order", "ignore")] = [self.id("offer")]
        if self.chance(10):
            made |= self.one(
                {"sort": "price"},
                {"min_quality": "fair"},
                {"max_cost": 1},
                {"queue_seconds": 0},
                {"allow_fallbacks": False},
            )
        return made

    def chat(self) -> dict[str, Any]:
        body = {"model": self.model(), "messages": [{"role": "user", "content": self.one("hello", "why?")}]}
        return {**body, "max_tokens": self.one(16, 100)} if self.chance(50) else body

    def model(self) -> str:
        return self.one(*MODELS, "auto") if self.chance(92) else self.one("never", self.id("offer"))

    def sent_chat(self) -> dict[str, Any]:
        body = {**self.chat(), "yggdrasil": self.wishes()}
        if self.chance(20):
            body["stream"] = True
        if self.chance(15):
            body["yggdrasil"]["idempotency_key"] = self.one("k1", "k2", "first")
        return body

    def compute(self) -> dict[str, Any]:
        if self.chance(25):
            inner: dict[str, Any] = {"model": "embedder", "input": "hello"}
            body = {"kind": "embeddings", "request": inner, **self.wishes()}
        else:
            body = {"kind": "chat", "request": self.chat(), **self.wishes()}
        if self.chance(40):
            body["idempotency_key"] = self.one("k1", "k2", "first")
        return body

    def new_key(self) -> dict[str, Any]:
        body: dict[str, Any] = {"name": self.one("ci", "laptop")}
        if self.chance(30):
            body |= {"spend_limit_microcents": self.one(0, 5_000_000), "models": [self.one(*MODELS)]}
        return body

    def method(self) -> dict[str, Any]:
        token = self.one(
            "sandbox_ok",
            "sandbox_ok",
            "sandbox_transfer",
            "sandbox_declined",
            "sandbox_late",
            "sandbox_pending",
        )
        return {
            "kind": "sandbox",
            "purpose": self.one("spend", "payout", "both", "both"),
            "gateway_token": token,
            "label": self.one("", "card"),
            "is_default": self.chance(30),
        }

    def top_up(self) -> dict[str, Any]:
        return {
            "method_id": self.id("method_id"),
            "amount_cents": self.one(50, 100, 1000, 10),
            "idempotency_key": self.one("k1", "k2", "first"),
        }
