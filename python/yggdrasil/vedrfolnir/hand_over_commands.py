"""The commands of the hand-over: `yggdrasil hand-over ask`, away; the others, at home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from cyclopts import App, Parameter

from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import SystemIds
from yggdrasil.vedrfolnir.address import server_url
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile
from yggdrasil.vedrfolnir.terminal import ask as question
from yggdrasil.vedrfolnir.terminal import run, say, state_path

if TYPE_CHECKING:
    from yggdrasil.vedrfolnir.hand_over import HandOver

State = Annotated[
    Path | None, Parameter(help="The device's file, if not VEDRFOLNIR_STATE or the user's own.")
]

app = App(name="hand-over", help="Hand a network over to a device away from home, and take it back.")


def _file(state: Path | None) -> IdentityFile:
    return IdentityFile(state if state is not None else state_path())


def _account(state: Path | None) -> HandOver:
    from yggdrasil.vedrfolnir.hand_over import HandOver

    return HandOver(_file(state))


@app.command
def ask(
    email: str,
    /,
    *,
    server: Annotated[str, Parameter(help="The server's address, https beyond this machine.")],
    device_id: Annotated[str, Parameter(help="1 to 64 of A-Z a-z 0-9 . _ -.")] = "away",
    name: Annotated[str | None, Parameter(help="What the device is called in the list at home.")] = None,
    wait: Annotated[bool, Parameter(help="For a yes on a device at home.", negative="")] = False,
    state: State = None,
) -> None:
    """Ask for the network of EMAIL: proven by the mailed code, or with --wait by a device at home."""

    async def work() -> None:
        file = _file(state)
        identity = file.load()
        if identity is None:
            file.save(Identity.new(server_url(server), device_id, SystemIds()))
        elif identity.session is not None:
            raise InvalidInput("state: this device has a session already; use another --state", field="state")
        async with _account(state) as account:
            asked = await account.ask(email, name or account.identity.device_id, SystemIds())
            if wait:
                say(f"at home: yggdrasil hand-over approve {asked.flow} {asked.check}")
                session = await account.wait(asked)
            else:
                taken = await account.take(asked, await question(f"code sent to {email}:"))
                if taken is None:
                    raise AssertionError("a code is answered")
                session = taken
            say(f"handed over: network {session.network_id} ({session.role})")

    run(work())


@app.command
def asks(*, state: State = None) -> None:
    """Who asks in your name now."""

    async def work() -> None:
        async with _account(state) as account:
            for one in await account.asks():
                say(f"{one['flow']} {one['asked_at']} {one['device_name']}")

    run(work())


@app.command
def approve(flow: UUID, check: str, /, *, state: State = None) -> None:
    """Say yes. CHECK is the number that stands on the device that asks: read it there, nowhere else."""

    async def work() -> None:
        async with _account(state) as account:
            await account.approve(flow, check)

    run(work())


@app.command
def deny(flow: UUID, /, *, state: State = None) -> None:
    """Say no."""

    async def work() -> None:
        async with _account(state) as account:
            await account.deny(flow)

    run(work())


@app.command(name="list")
def list_given(*, state: State = None) -> None:
    """What was handed over: which device, until when, and whether it still holds."""

    async def work() -> None:
        async with _account(state) as account:
            for one in await account.given():
                say(f"{one['hand_over_id']} {one['state']} until {one['ends_at']} {one['device_name']}")

    run(work())


@app.command
def revoke(hand_over_id: UUID, /, *, state: State = None) -> None:
    """Take it back: the device's session, tokens and sockets end at once."""

    async def work() -> None:
        async with _account(state) as account:
            await account.revoke(hand_over_id)

    run(work())
