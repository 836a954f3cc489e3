"""Offers and requests to vary in the tests of the router."""

from __future__ import annotations

import json
from typing import Any

from yggdrasil.scoring import Decision, Router

BUYER, SELLER, OTHER = (bytes([n]) * 16 for n in (1, 2, 3))


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def offer(number: int, **facts: Any) -> dict[str, Any]:
    return {
        "key": key(number),
        "owner": SELLER,
        "group": key(1_000 + number),
        "model": "small",
        "price_microcents": 100_000_000,
        "context_tokens": 8_192,
        "capacity": 4,
        "visibility": "market",
    } | facts


def request(**wishes: Any) -> dict[str, Any]:
    return {
        "model": "small",
        "network": BUYER,
        "scope": "market",
        "context_tokens": 100,
        "now_ms": 0,
        "seed": 1,
    } | wishes


def router_of(*offers: dict[str, Any], **settings: Any) -> Router:
    router = Router(**({"explore_ppm": 0} | settings))
    for facts in offers:
        router.upsert(**facts)
        router.set_online(facts["key"], True)
    return router


def candidates(decision: Decision) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(decision.card())["candidates"]
    return listed
