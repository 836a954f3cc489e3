"""A bare socket to a live server, for what a well-behaved client would never do."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.live.house import House
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.wire.proof import decode_bytes, encode_bytes, hello_payload

CLOSE_SECONDS_MAX = 1.0
"""After a revocation; loopback needs milliseconds."""


async def knock(house: House, subprotocol: str = "bifrost.v1") -> ClientConnection:
    """A socket that has said nothing yet."""
    return await connect(
        f"ws://127.0.0.1:{house.port}/bifrost",
        subprotocols=[Subprotocol(subprotocol)],
        compression=None,
        ping_interval=None,
        max_size=None,
        proxy=None,
    )


async def dial(house: House, account: Account, *, token: str | None = None) -> ClientConnection:
    """A socket of the account's device after `welcome`. `token`: another credential than the session's."""
    socket = await knock(house)
    challenge = json.loads(await socket.recv())
    token = token or await account.token()
    nonce = decode_bytes(challenge["nonce"], 32, "nonce")
    proof = account.identity.private_key().sign(hello_payload(nonce, token))
    hello = {
        "type": "hello",
        "token": token,
        "device_id": account.identity.device_id,
        "proof": encode_bytes(proof),
    }
    await socket.send(json.dumps(hello))
    welcome = json.loads(await socket.recv())
    assert welcome["type"] == "welcome", welcome
    return socket


async def closed_with(socket: ClientConnection, seconds: float) -> int | None:
    """The code the server closes with, within that time; what comes before is dropped."""
    async with asyncio.timeout(seconds):
        await socket.wait_closed()
    return socket.close_code


async def is_served(socket: ClientConnection) -> None:
    """The socket answers a ping of the protocol."""
    await socket.send(json.dumps({"type": "ping", "id": 7}))
    async with asyncio.timeout(5):
        while json.loads(await socket.recv())["type"] != "pong":
            pass


async def metric(house: House, name: str) -> float:
    """A metric without labels."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{house.url}/metrics")).text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


async def metric_becomes(house: House, name: str, value: float, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while (seen := await metric(house, name)) != value:
        assert time.monotonic() < deadline, (name, seen, value)
        await asyncio.sleep(0.02)


def resident_bytes(house: House) -> int:
    """The memory of the server's process."""
    assert house.process is not None
    with open(f"/proc/{house.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


async def call(house: House, method: str, path: str, token: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=house.url, timeout=30) as http:
        return await http.request(method, path, headers={"authorization": f"Bearer {token}"}, **options)
