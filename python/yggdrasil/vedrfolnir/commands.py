"""The commands of a device; the server's command line takes them in.

The clients of HTTP and sockets are imported by the command that runs: the server would carry 10 MiB of them.
"""

from __future__ import annotations

import asyncio
import platform
import re
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal
from uuid import UUID

from cyclopts import App, Parameter

from yggdrasil.errors import InvalidInput, Unauthenticated
from yggdrasil.kernel import SystemIds
from yggdrasil.vedrfolnir import member_commands
from yggdrasil.vedrfolnir.address import server_url
from yggdrasil.vedrfolnir.hand_over_commands import app as hand_over_app
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile
from yggdrasil.vedrfolnir.terminal import ask, cents, run, say, state_path, typed_lines, until_told_to_stop

if TYPE_CHECKING:
    from yggdrasil.vedrfolnir.account import Account
    from yggdrasil.vedrfolnir.links import DeviceLink

SERVER: Final = "http://127.0.0.1:8480"
PURPOSE: Final = "chat"

World = Literal["Midgard", "Asgard", "Alfheim", "Jötnar"]
State = Annotated[
    Path | None, Parameter(help="The device's file, if not VEDRFOLNIR_STATE or the user's own.")
]
Server = Annotated[str, Parameter(help="The server's address, https beyond this machine.")]
Email = Annotated[str | None, Parameter(help="Where the code goes, if the device is not signed in.")]
DeviceId = Annotated[str | None, Parameter(help="1 to 64 of A-Z a-z 0-9 . _ -, unique in your network.")]

app = App(name="vedrfolnir", help="A device of the Edda network.")
key = App(name="key", help="API keys.")
app.command(key)
app.command(hand_over_app)
member_commands.add(app)


def _file(state: Path | None) -> IdentityFile:
    return IdentityFile(state if state is not None else state_path())


def _account(state: Path | None) -> Account:
    from yggdrasil.vedrfolnir.account import Account

    return Account(_file(state))


def _host_name() -> str:
    """This machine's name as a device id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", platform.node()).strip("-")[:64] or "device"


async def _signed_in(
    file: IdentityFile, *, server: str, email: str | None, device_id: str | None, name: str | None, world: str
) -> Account:
    """The account of a registered device, signing in and registering as far as it is needed."""
    from yggdrasil.vedrfolnir.account import Account

    identity = file.load()
    address = server_url(server)
    if identity is None or identity.server_url != address:
        if email is None:
            raise InvalidInput("email: is needed to sign in (--email)", field="email")
        fresh = Identity.new(address, device_id or _host_name(), SystemIds())
        file.save(fresh)
    elif device_id is not None and device_id != identity.device_id:
        raise InvalidInput(
            f"device-id: this device is {identity.device_id!r}; another one needs --state", field="device-id"
        )
    account = Account(file)
    try:
        if not await _has_session(account):
            address_of = email or account.identity.email
            if address_of is None:
                raise InvalidInput("email: is needed to sign in (--email)", field="email")
            flow = await account.begin(address_of)
            await account.verify(flow, await ask(f"code sent to {address_of}:"))
        await account.register_device(name=name or account.identity.device_id, world=world)
    except BaseException:
        await account.close()
        raise
    return account


async def _has_session(account: Account) -> bool:
    if account.identity.session is None:
        return False
    try:
        await account.token()
    except Unauthenticated:
        return False
    return True


@app.command
def pair(
    *,
    email: Email = None,
    server: Server = SERVER,
    device_id: DeviceId = None,
    name: Annotated[str | None, Parameter(help="What people call the device.")] = None,
    world: Annotated[World, Parameter(help="Midgard: phone, Alfheim: PC, Asgard: server.")] = "Alfheim",
    state: State = None,
) -> None:
    """Sign in with a code by e-mail and register this device."""

    async def work() -> None:
        account = await _signed_in(
            _file(state), server=server, email=email, device_id=device_id, name=name, world=world
        )
        async with account:
            session = await account.session()
            say(f"paired: {account.identity.device_id} in network {session.network_id} ({session.role})")

    run(work())


@app.command
def status(*, state: State = None) -> None:
    """Who this device is, its network's devices, and its money."""

    async def work() -> None:
        async with _account(state) as account:
            session = await account.session()
            identity = account.identity
            say(f"server:  {identity.server_url}")
            say(f"network: {session.network_id} ({session.role})")
            for device in await account.devices():
                mark = " (this one)" if device["device_id"] == identity.device_id else ""
                online = "online" if device["online"] else "offline"
                say(f"device:  {device['device_id']} {device['name']}: {device['world']}, {online}{mark}")
            balance = await account.balance()
            say(f"wallet:  {cents(balance['wallet_available_microcents'])} available")
            say(f"earned:  {cents(balance['earnings_microcents'])}")

    run(work())


@app.command
def provide(
    *,
    backend: Annotated[str, Parameter(help="Base URL, such as http://localhost:11434/v1.")],
    price: Annotated[
        int | None, Parameter(help="Whole cents per --per tokens, prompt and completion alike.")
    ] = None,
    model: Annotated[
        tuple[str, ...], Parameter(help="A chat model of the backend; repeatable.", negative="")
    ] = (),
    embeddings_model: Annotated[
        tuple[str, ...], Parameter(help="An embeddings model; repeatable.", negative="")
    ] = (),
    per: Annotated[int, Parameter(help="1000 or 1000000 tokens.")] = 1_000,
    own: Annotated[bool, Parameter(help="For my own network: free, no payment set-up.", negative="")] = False,
    capacity: Annotated[int, Parameter(help="Jobs at a time; more are sent elsewhere.")] = 1,
    context_tokens: Annotated[int, Parameter(help="Longest prompt and answer together.")] = 8_192,
    parameter: Annotated[
        tuple[str, ...],
        Parameter(
            help="A request parameter the chat models honour (tools, seed, ...); repeatable.", negative=""
        ),
    ] = (),
    backend_key_file: Annotated[Path | None, Parameter(help="A file with the backend's API key.")] = None,
    server: Server = SERVER,
    email: Email = None,
    device_id: DeviceId = None,
    name: Annotated[str | None, Parameter(help="What people call the device.")] = None,
    world: Annotated[World, Parameter(help="Midgard: phone, Alfheim: PC, Asgard: server.")] = "Alfheim",
    state: State = None,
) -> None:
    """Sell a local OpenAI-compatible server (Ollama, llama.cpp, vLLM), or share it with your own network."""

    async def work() -> None:
        from yggdrasil.vedrfolnir.backend import Backend
        from yggdrasil.vedrfolnir.seller import Sale, check_models, sell

        if own and price:
            raise InvalidInput("price: --own is free; leave it out", field="price")
        if not own and price is None:
            raise InvalidInput("price: is needed (--price N), or --own to sell nothing", field="price")
        sale = Sale(
            chat_models=model,
            embeddings_models=embeddings_model,
            price_cents=price or 0,
            price_unit_tokens=per,
            context_tokens_max=context_tokens,
            capacity_jobs=capacity,
            audience="network" if own else "market",
            supported_parameters=parameter,
        )
        local = Backend(backend, _secret(backend_key_file))
        try:
            await check_models(local, sale)
            account = await _signed_in(
                _file(state), server=server, email=email, device_id=device_id, name=name, world=world
            )
            async with account:
                await sell(account, local, sale)
        finally:
            await local.close()

    run(until_told_to_stop(work()))


def _secret(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"backend-key-file: {error}", field="backend-key-file") from None
    return text.strip()


@app.command
def connect(to: str, /, *, state: State = None) -> None:
    """Open a link to another device of your network; what you type goes there, line by line."""

    async def work() -> None:
        from yggdrasil.vedrfolnir.connection import Connection

        async with (
            _account(state) as account,
            Connection.of(account.identity, account.token) as connection,
        ):
            link = await connection.connect(to, PURPOSE)
            say(f"connected: {to}")
            await _talk(link)

    run(until_told_to_stop(work()))


@app.command
def listen(
    *,
    allow: Annotated[
        tuple[str, ...], Parameter(help="A device that is not asked about; repeatable.", negative="")
    ] = (),
    once: Annotated[bool, Parameter(help="Stop after the first link.", negative="")] = False,
    state: State = None,
) -> None:
    """Wait for links from devices of your network; each one is asked about, unless --allow names it."""

    async def consent(peer: str, purpose: str) -> bool:
        if purpose != PURPOSE:
            return False
        return peer in allow or (await ask(f"allow a link from {peer}? [y/N]")).lower() in ("y", "yes")

    async def work() -> None:
        from yggdrasil.vedrfolnir.connection import Connection

        async with _account(state) as account:
            ended = asyncio.Event()

            async def serve(link: DeviceLink) -> None:
                say(f"connected: {link.peer}")
                await _talk(link)
                if once:
                    ended.set()

            connection = Connection.of(account.identity, account.token)
            connection.on_connect(consent, serve)
            async with connection:
                say(f"listening: {account.identity.device_id}")
                waiting = [asyncio.create_task(connection.wait()), asyncio.create_task(ended.wait())]
                done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                for task in done:
                    task.result()

    run(until_told_to_stop(work()))


async def _talk(link: DeviceLink) -> None:
    """Print what comes, send what is typed; the end of either side ends the link."""

    async def send() -> None:
        async with aclosing(typed_lines()) as lines:  # type: ignore[type-var]
            async for line in lines:
                if line:
                    await link.send(line.encode())
        await link.close()

    sending = asyncio.create_task(send())
    try:
        async for payload in link:
            say(f"{link.peer}: {payload.decode(errors='replace')}")
    finally:
        sending.cancel()
    say(f"ended: {link.peer}")


@key.command
def create(name: str, /, *, state: State = None) -> None:
    """Make an API key; it is shown this once."""

    async def work() -> None:
        async with _account(state) as account:
            say((await account.create_key(name))["key"])

    run(work())


@key.command(name="list")
def list_keys(*, state: State = None) -> None:
    """The working keys, without their texts."""

    async def work() -> None:
        async with _account(state) as account:
            for item in await account.keys():
                say(f"{item['key_id']} {item['created_at']} {item['name']}")

    run(work())


@key.command
def revoke(key_id: UUID, /, *, state: State = None) -> None:
    """Have a key refused from now on."""

    async def work() -> None:
        async with _account(state) as account:
            await account.revoke_key(key_id)

    run(work())


@app.command
def payment_method(
    *,
    token: Annotated[str, Parameter(help="From the payment provider's form; the sandbox knows sandbox_ok.")],
    kind: Literal["card", "sepa", "paypal", "sandbox"] = "sandbox",
    purpose: Literal["spend", "payout", "both"] = "both",
    state: State = None,
) -> None:
    """Add a way to pay or to be paid, and verify it."""

    async def work() -> None:
        async with _account(state) as account:
            method = await account.add_payment_method(kind=kind, gateway_token=token, purpose=purpose)
            method = await account.verify_payment_method(UUID(method["method_id"]))
            if method["state"] == "pending":
                proof = await ask(f"{method['hint']}:")
                method = await account.verify_payment_method(UUID(method["method_id"]), proof)
            say(f"{method['state']}: {method['method_id']} {method['hint']}".rstrip())

    run(work())


@app.command
def top_up(amount_cents: int, /, *, state: State = None) -> None:
    """Put whole cents into the network's wallet, from its default payment method."""

    async def work() -> None:
        async with _account(state) as account:
            usable = [
                method
                for method in await account.payment_methods()
                if method["state"] == "verified" and method["purpose"] != "payout"
            ]
            if not usable:
                raise InvalidInput("payment method: none is verified; run: yggdrasil payment-method")
            method = next((one for one in usable if one["is_default"]), usable[0])
            payment = await account.top_up(UUID(method["method_id"]), amount_cents, str(SystemIds().uuid()))
            say(f"{payment['state']}: {payment['amount_cents']} cents")

    run(work())
