"""The commands of a device about networks and their members: invite, accept, networks, switch, members."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

from cyclopts import App, Parameter

from yggdrasil.vedrfolnir.identity import IdentityFile
from yggdrasil.vedrfolnir.terminal import run, say, state_path

if TYPE_CHECKING:
    from yggdrasil.vedrfolnir.account import Account

Role = Literal["admin", "member", "guest"]
State = Annotated[
    Path | None, Parameter(help="The device's file, if not VEDRFOLNIR_STATE or the user's own.")
]


def add(app: App) -> None:
    """Teach `app` these commands."""
    for command in (invite, accept, networks, switch, members):
        app.command(command)


def _account(state: Path | None) -> Account:
    from yggdrasil.vedrfolnir.account import Account

    return Account(IdentityFile(state if state is not None else state_path()))


def invite(
    email: str,
    /,
    *,
    name: Annotated[str, Parameter(help="What the invited person will call your network.")],
    role: Role = "member",
    state: State = None,
) -> None:
    """Invite an address into this device's network; the invitation is mailed there."""

    async def work() -> None:
        async with _account(state) as account:
            made = await account.invite(email, name=name, role=role)
            say(f"invited: {made['email']} as {made['role']}, until {made['expires_at']}")

    run(work())


def accept(invitation: str, /, *, state: State = None) -> None:
    """Join the network of an invitation that was mailed to your address."""

    async def work() -> None:
        async with _account(state) as account:
            joined = await account.accept(invitation)
            say(f"joined: {joined['name']} as {joined['role']}; run: yggdrasil switch {joined['network_id']}")

    run(work())


def networks(*, state: State = None) -> None:
    """The networks you are a member of."""

    async def work() -> None:
        async with _account(state) as account:
            session = await account.session()
            for one in await account.networks():
                mark = " (this one)" if one["network_id"] == str(session.network_id) else ""
                say(f"{one['network_id']} {one['name'] or 'your own'}: {one['role']}{mark}")

    run(work())


def switch(network: UUID, /, *, state: State = None) -> None:
    """Have this device act in another of your networks; pair registers it there."""

    async def work() -> None:
        async with _account(state) as account:
            session = await account.switch(network)
            say(f"switched: network {session.network_id} ({session.role})")

    run(work())


def members(*, state: State = None) -> None:
    """The members of this device's network, for its owner and admins."""

    async def work() -> None:
        async with _account(state) as account:
            for one in await account.members():
                who = " ".join(word for word in (one["display_name"], one["email"]) if word) or "the owner"
                say(f"{one['user_id']} {one['role']}: {who}")

    run(work())
