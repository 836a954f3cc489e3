"""The commands and the account against a real server in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from yggdrasil import errors
from yggdrasil.demo.mail import CodeMail
from yggdrasil.demo.minilm import MODEL_NAME
from yggdrasil.demo.processes import Process, Stage
from yggdrasil.demo.story import free_port
from yggdrasil.kernel import SystemIds
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile


class World:
    """A server, its mail, and a place for devices."""

    def __init__(self, place: Path, stage: Stage, mail: CodeMail, port: int) -> None:
        self.place, self.stage, self.mail, self.port = place, stage, mail, port
        self.url = f"http://127.0.0.1:{port}"
        self.server: Process | None = None

    async def serve(self) -> None:
        environment = {"YGGDRASIL_SMTP_URL": self.mail.url, "YGGDRASIL_DATA_DIR": str(self.place / "data")}
        arguments = ["-m", "yggdrasil", "serve", "--port", str(self.port)]
        self.server = await self.stage.start("server", arguments, environment)
        await self.server.line("Yggdrasil listens at")

    async def command(self, device: str, *words: str) -> Process:
        arguments = ["-m", "yggdrasil", *words, "--state", str(self.file(device).path)]
        return await self.stage.start(f"{device}-{words[0]}", arguments)

    async def output(self, device: str, *words: str) -> list[str]:
        process = await self.command(device, *words)
        await process.finish()
        return process.lines

    def file(self, device: str) -> IdentityFile:
        return IdentityFile(self.place / f"{device}.json")

    async def signed_in(self, device: str, person: str) -> Account:
        """A new device of a person, signed in through the account itself."""
        file = self.file(device)
        file.save(Identity.new(self.url, device, SystemIds()))
        account = Account(file)
        flow = await account.begin(f"{person}@edda.example")
        await account.verify(flow, await self.mail.code(f"{person}@edda.example"))
        return account


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    place = tmp_path_factory.mktemp("world")
    async with CodeMail() as mail, Stage(place / "logs") as stage:
        world = World(place, stage, mail, free_port())
        await world.serve()
        yield world


async def test_pairing_asks_for_the_mailed_code_and_keeps_the_device(world: World) -> None:
    email = "heid@edda.example"
    pairing = await world.command(
        "heid-pc", "pair", "--server", world.url, "--email", email, "--device-id", "heid-pc"
    )
    await pairing.line(f"code sent to {email}:")
    await pairing.write(await world.mail.code(email))
    await pairing.line("paired: heid-pc in network")
    await pairing.finish()
    assert world.file("heid-pc").path.stat().st_mode & 0o077 == 0
    # Again: nothing is asked, for the session still holds.
    assert (await world.output("heid-pc", "pair", "--server", world.url))[0].startswith("paired: heid-pc")
    status = "\n".join(await world.output("heid-pc", "status"))
    assert "device:  heid-pc heid-pc: Alfheim, offline (this one)" in status
    assert "wallet:  0 cents available" in status


async def test_a_wrong_code_is_one_line_and_exit_1(world: World) -> None:
    process = await world.command("gulv", "pair", "--server", world.url, "--email", "gulv@edda.example")
    await process.line("code sent")
    code = await world.mail.code("gulv@edda.example")
    await process.write(f"{(int(code) + 1) % 10**8:08d}")
    with pytest.raises(errors.Unavailable, match="exit code 1"):
        await process.finish()
    assert process.lines[-1].startswith("error: ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("status",), "error: .*is not paired; run: yggdrasil pair"),
        (("pair", "--server", "ftp://x", "--email", "a@b.example"), "error: server: must look like"),
        (("pair", "--server", "http://127.0.0.1:1"), r"error: email: is needed"),
        (
            ("pair", "--server", "http://127.0.0.1:1", "--email", "a@b.example"),
            r"error: http://127\.0\.0\.1:1: ",
        ),
        (("provide", "--backend", "x", "--model", "m", "--price", "1"), "error: backend: must be a base URL"),
        (("provide", "--backend", "http://127.0.0.1:1/v1", "--model", "m"), "error: price: is needed"),
        (("provide", "--backend", "http://127.0.0.1:1/v1", "--price", "1"), "error: model: at least one"),
        (
            ("provide", "--backend", "http://127.0.0.1:1/v1", "--model", "m", "--price=-1"),
            "error: price: must be 0 to 1000000",
        ),
        (
            (
                "provide",
                "--backend",
                "http://127.0.0.1:1/v1",
                "--model",
                "m",
                "--price",
                "1",
                "--capacity",
                "0",
            ),
            "error: capacity: must be 1 to 1024",
        ),
        (
            ("provide", "--backend", "http://127.0.0.1:1/v1", "--model", "m", "--price", "1", "--per", "7"),
            "error: per: must be 1000 or 1000000",
        ),
        (
            ("provide", "--backend", "http://127.0.0.1:1/v1", "--model", "m", "--price", "1"),
            r"error: http://127\.0\.0\.1:1/v1: the backend is not there",
        ),
        (
            ("provide", "--backend", "http://127.0.0.1:1/v1", "--model", "m", "--own", "--price", "1"),
            "error: price: --own is free",
        ),
    ],
)
async def test_wrong_input_is_named(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    async with Stage(tmp_path) as stage:
        process = await stage.start("it", ["-m", "yggdrasil", *words, "--state", str(tmp_path / "none.json")])
        with pytest.raises(errors.Unavailable, match=says):
            await process.finish()


async def test_tokens_renew_themselves_and_processes_share_a_session(world: World) -> None:
    first = await world.signed_in("renew-pc", "renew")
    second = Account(first._file)  # as another process would have it: the same file, its own memory

    def refresh_token(account: Account) -> str:
        assert account.identity.session is not None
        return account.identity.session.refresh_token

    async with first, second:
        spent = refresh_token(first)
        await first.token(renew=True)
        assert refresh_token(first) != spent == refresh_token(second)
        await second.token(renew=True)  # finds the newer one in the file, and does not go back to the server
        assert refresh_token(second) == refresh_token(first)
        for account in (second, first) * 3:
            before = refresh_token(account)
            await account.token(renew=True)
            assert refresh_token(account) != before
            assert (await account.call("GET", "/api/v1/users/me"))["email"] == "renew@edda.example"


async def test_a_refused_token_is_renewed_and_an_ended_session_is_told(world: World) -> None:
    account = await world.signed_in("ended-pc", "ended")
    async with account:
        session = account.identity.session
        assert session is not None
        await account.change(
            session=msgspec.structs.replace(session, access_token=session.access_token[:-8] + "AAAAAAAA")
        )
        assert (await account.call("GET", "/api/v1/users/me"))["role"] == "owner"
        await account.call("POST", "/api/v1/users/logout")
        with pytest.raises(errors.Unauthenticated):
            await account.call("GET", "/api/v1/users/me")


async def test_errors_of_the_server_come_as_their_exceptions(world: World) -> None:
    account = await world.signed_in("errors-pc", "errors")
    async with account:
        with pytest.raises(errors.NotFound):
            await account.call("GET", "/api/v1/devices/nobody")
        with pytest.raises(errors.InvalidInput, match="world") as caught:
            await account.register_device(name="x", world="Helheim")
        assert caught.value.field == "world"
        await account.register_device(name="x", world="Alfheim")
        with pytest.raises(errors.PaymentMethodRequired):
            await account.call(
                "POST",
                "/api/v1/marketplace/providers/register",
                json={"device_id": "errors-pc", "models": [{"model": "m"}]},
            )


async def test_another_device_with_the_same_id_is_refused(world: World) -> None:
    async with await world.signed_in("twin", "twin") as account:
        await account.register_device(name="one", world="Alfheim")
        again = await account.register_device(name="one", world="Alfheim")
        assert again["device_id"] == "twin"
    world.file("twin").path.rename(world.place / "first-twin.json")
    async with await world.signed_in("twin", "twin") as account:
        with pytest.raises(errors.Conflict, match="another device of this network"):
            await account.register_device(name="two", world="Alfheim")


async def test_keys_are_made_listed_and_revoked(world: World) -> None:
    async with await world.signed_in("keys-pc", "keys") as account:
        await account.register_device(name="x", world="Alfheim")
    (key,) = await world.output("keys-pc", "key", "create", "ci")
    assert key.startswith("ygg_")
    (listed,) = await world.output("keys-pc", "key", "list")
    assert listed.endswith(" ci")
    await world.output("keys-pc", "key", "revoke", listed.split()[0])
    assert await world.output("keys-pc", "key", "list") == []
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{world.url}/api/v1/users/me", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 401


async def _embed(world: World, key: str, scope: str) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.post(
            f"{world.url}/v1/embeddings",
            json={"model": MODEL_NAME, "input": "a text", "yggdrasil": {"scope": scope}},
            headers={"authorization": f"Bearer {key}"},
        )


async def test_a_sold_model_is_served_paid_and_still_there_after_the_servers_crash(world: World) -> None:
    backend = await world.stage.start("backend", ["-m", "yggdrasil.demo.backend"])
    url = (await backend.line("listening ")).removeprefix("listening ")
    for device, person in (("seller", "seller"), ("buyer", "buyer")):
        async with await world.signed_in(device, person) as account:
            await account.register_device(name=device, world="Asgard")
    sale = (
        "provide",
        "--server",
        world.url,
        "--backend",
        url,
        "--embeddings-model",
        MODEL_NAME,
        "--price",
        "2",
    )
    with pytest.raises(errors.Unavailable, match="payment-method --purpose payout"):
        await world.output("seller", *sale)
    unknown = ("provide", "--server", world.url, "--backend", url, "--model", "gpt-99", "--price", "2")
    with pytest.raises(errors.Unavailable, match="the backend has no 'gpt-99'; it has: "):
        await world.output("seller", *unknown)
    method = await world.output("seller", "payment-method", "--token", "sandbox_ok", "--purpose", "payout")
    assert method[0].startswith("verified: ")
    provider = await world.command("seller", *sale)
    await provider.line(f"offering {MODEL_NAME} (embeddings) at 2 cents per 1,000 tokens, audience market")

    await world.output("buyer", "payment-method", "--token", "sandbox_ok", "--purpose", "spend")
    assert await world.output("buyer", "top-up", "100") == ["succeeded: 100 cents"]
    (key,) = await world.output("buyer", "key", "create", "test")
    assert (await _embed(world, key, "market")).is_success
    await provider.line("earnings: 0.88 cents")
    assert "wallet:  99 cents available" in await world.output("buyer", "status")
    assert (await _embed(world, key, "own")).status_code == 503

    assert world.server is not None
    world.server.kill()
    await provider.line("lost: ")
    back = asyncio.Event()
    provider.on_line = lambda line: back.set() if line.startswith("live: ") else None
    await world.serve()
    await asyncio.wait_for(back.wait(), 90)
    assert (await _embed(world, key, "market")).is_success
    await provider.line("earnings: 1.76 cents")


async def test_one_shares_with_the_own_network_for_nothing(world: World) -> None:
    backend = await world.stage.start("own-backend", ["-m", "yggdrasil.demo.backend"])
    url = (await backend.line("listening ")).removeprefix("listening ")
    async with await world.signed_in("home", "home") as account:
        await account.register_device(name="home", world="Asgard")
        key = (await account.create_key("home"))["key"]
    provider = await world.command(
        "home", "provide", "--server", world.url, "--backend", url, "--embeddings-model", MODEL_NAME, "--own"
    )
    await provider.line("offering ")
    answer = await _embed(world, key, "network")
    assert answer.is_success
    assert answer.json()["yggdrasil"]["cost_microcents"] == 0
    await provider.stop()
    assert provider.lines[-1].startswith("done embeddings")


async def test_a_network_is_joined_by_an_invitation_and_acted_in_by_switching(world: World) -> None:
    inviter = await world.signed_in("inviter", "inviter")
    network = (await inviter.session()).network_id
    await inviter.close()
    guest = await world.signed_in("invited", "invited")
    home = (await guest.session()).network_id
    await guest.close()
    email = "invited@edda.example"
    (said,) = await world.output("inviter", "invite", email, "--name", "The hall", "--role", "guest")
    assert said.startswith(f"invited: {email} as guest, until ")
    text = await world.mail.invitation(email)
    assert await world.output("invited", "accept", text) == [
        f"joined: The hall as guest; run: yggdrasil switch {network}"
    ]
    assert await world.output("invited", "networks") == [
        f"{home} your own: owner (this one)",
        f"{network} The hall: guest",
    ]
    assert await world.output("invited", "switch", str(network)) == [f"switched: network {network} (guest)"]
    assert (await world.output("invited", "networks"))[1].endswith("guest (this one)")
    seen = await world.output("inviter", "members")
    assert [line.split(" ", 1)[1] for line in seen] == [
        "owner: inviter@edda.example",
        f"guest: {email}",
    ]
    refused = await world.command("invited", "members")
    with pytest.raises(errors.Unavailable, match="needs the role admin"):
        await refused.finish()
