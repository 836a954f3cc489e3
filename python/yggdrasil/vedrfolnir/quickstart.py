"""From nothing to a working API key on a development server, in one command."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx

from yggdrasil.errors import Unavailable
from yggdrasil.kernel import SystemIds
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile
from yggdrasil.wire.proof import encode_bytes

TOPUP_CENTS: Final = 1_000
REGISTER_LABEL: Final = b"yggdrasil.v1 device\0"


async def quickstart(server: str, email: str) -> None:
    """Make a user, a device, a verified sandbox method with a balance and an API key; print how to use them.

    Errors: Unavailable (no development server there), and what the server answers.
    """
    server = server.rstrip("/")
    ids = SystemIds()
    with tempfile.TemporaryDirectory() as place:
        file = IdentityFile(Path(place) / "device.json")
        file.save(Identity.new(server, f"quickstart-{ids.secret(3).hex()}", ids))
        async with Account(file) as account:
            flow = await account.begin(email)
            session = await account.verify(flow, await _mailed_code(server, email))
            await account.register_device(name="Quickstart", world="Alfheim")
            method = await account.call(
                "POST",
                "/api/v1/payments/methods",
                json={
                    "kind": "sandbox",
                    "purpose": "both",
                    "gateway_token": "sandbox_ok",
                    "is_default": True,
                },
            )
            await account.call("POST", f"/api/v1/payments/methods/{method['method_id']}/verify", json={})
            await account.call(
                "POST",
                "/api/v1/payments/process",
                json={
                    "method_id": method["method_id"],
                    "amount_cents": TOPUP_CENTS,
                    "idempotency_key": encode_bytes(ids.secret(16)),
                },
            )
            key: dict[str, Any] = await account.call("POST", "/api/v1/keys", json={"name": "quickstart"})
    print(
        f"Network {session.network_id}, device {account.identity.device_id}, "
        f"balance € {TOPUP_CENTS / 100:.2f} (sandbox)\n"
    )
    print(f"  curl -s {server}/v1/models -H 'Authorization: Bearer {key['key']}'\n")
    print(f"  export OPENAI_BASE_URL={server}/v1")
    print(f"  export OPENAI_API_KEY={key['key']}\n")
    print("Models appear there once somebody sells one:")
    print("  yggdrasil provide --backend http://127.0.0.1:11434/v1 --model NAME --price 2")


async def _mailed_code(server: str, email: str) -> str:
    """The newest code for the address, from the development mail page."""
    async with httpx.AsyncClient() as http:
        for _ in range(50):
            answer = await http.get(f"{server}/dev/mail/messages")
            if answer.status_code != httpx.codes.OK:
                break
            for item in answer.json()["items"]:
                if item["to"] == email and (code := re.search(r"\b\d{8}\b", item["text"])):
                    return code.group()
            import asyncio

            await asyncio.sleep(0.1)
    raise Unavailable(
        f"{server}: no development mail page with a code; is it a development server without SMTP?"
    )
