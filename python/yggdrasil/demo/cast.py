"""Who takes part in the demonstration, and how people and devices come into being."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from yggdrasil.demo.extract import CHAT_MODEL
from yggdrasil.demo.mail import CodeMail
from yggdrasil.demo.minilm import MODEL_NAME
from yggdrasil.kernel import SystemIds
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile

TOP_UP_CENTS: Final = 2_000
CONTEXT_TOKENS: Final = 32_768
SANDBOX_TOKEN: Final = "sandbox_ok"  # noqa: S105  what the sandbox gateway calls a good card


@dataclass(frozen=True, slots=True)
class Seller:
    """A provider device and what it asks. `delay_ms` slows its stand-in backend down."""

    network: str
    device_id: str
    price_cents: int
    capacity_jobs: int
    delay_ms: int
    models: tuple[str, ...]
    chat_models: tuple[str, ...]
    backend: str | None = None
    """Somebody else's server; None: a stand-in is started for this device."""

    def options(self) -> list[str]:
        """What `yggdrasil provide` is told, apart from where."""
        chosen = [f"--price={self.price_cents}", f"--capacity={self.capacity_jobs}"]
        chosen += [f"--context-tokens={CONTEXT_TOKENS}"]
        chosen += [part for name in self.models for part in ("--embeddings-model", name)]
        return chosen + [part for name in self.chat_models for part in ("--model", name)]


BUYERS: Final = (("ask", ("ask-pc", "ask-phone")), ("embla", ("embla-pc",)))
"""(network, its devices). Ask's two devices also talk to each other."""


def sellers(backend: str | None, chat_model: str | None) -> list[Seller]:
    """Three providers of three networks, any two of which can carry the whole load.

    With a backend of one's own, two more that sell its model.
    """
    chat = (CHAT_MODEL,) if backend is None else ()
    found = [
        Seller("brokk", "brokk-forge", 1, 2, 40, (MODEL_NAME,), chat),
        Seller("dvalin", "dvalin-forge", 2, 3, 15, (MODEL_NAME,), chat),
        Seller("sindri", "sindri-forge", 3, 4, 0, (MODEL_NAME,), chat),
    ]
    if backend is not None and chat_model is not None:
        found += [
            Seller("brokk", "brokk-chat", 1, 2, 0, (), (chat_model,), backend),
            Seller("sindri", "sindri-chat", 2, 2, 0, (), (chat_model,), backend),
        ]
    return found


def address(network: str) -> str:
    """The e-mail address of a network's owner; a domain that never resolves (RFC 2606)."""
    return f"{network}@edda.example"


class People:
    """Signs people in and keeps their devices' files under `place`."""

    def __init__(self, place: Path, server: str, mail: CodeMail) -> None:
        self.place = place
        self._server = server
        self._mail = mail
        self._ids = SystemIds()

    def file(self, device_id: str) -> IdentityFile:
        """Where a device keeps itself."""
        return IdentityFile(self.place / f"{device_id}.json")

    def account(self, device_id: str) -> Account:
        """A signed-in device's account."""
        return Account(self.file(device_id))

    async def sign_in(self, network: str, device_id: str) -> None:
        """A new device of a network's owner: the code comes by real mail."""
        file = self.file(device_id)
        file.save(Identity.new(self._server, device_id, self._ids))
        async with Account(file) as account:
            flow = await account.begin(address(network), network.capitalize())
            await account.verify(flow, await self._mail.code(address(network)))
            world = (
                "Midgard" if device_id.endswith("phone") else "Asgard" if "forge" in device_id else "Alfheim"
            )
            await account.register_device(name=re.sub("-", " ", device_id).title(), world=world)

    async def add_method(self, device_id: str, *, top_up: bool) -> None:
        """A verified sandbox method; buyers also put 20 euros into their wallet."""
        async with self.account(device_id) as account:
            method = await account.add_payment_method(
                kind="sandbox", gateway_token=SANDBOX_TOKEN, purpose="spend" if top_up else "payout"
            )
            method_id = UUID(method["method_id"])
            await account.verify_payment_method(method_id)
            if top_up:
                await account.top_up(method_id, TOP_UP_CENTS, str(self._ids.uuid()))
