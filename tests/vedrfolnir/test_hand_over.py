"""The hand-over on real devices and a real server: commands at home and away, and a socket that is cut."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import make_directory
from tests.live.house import IDS, House, open_house, person
from yggdrasil.errors import CodeRejected, InvalidInput, Unauthenticated
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.hand_over import HandOver
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile
from yggdrasil.wire.hand_over import open_parcel
from yggdrasil.wire.proof import decode_bytes


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    place = make_directory()
    async with open_house(place) as house:
        yield house
    shutil.rmtree(place, ignore_errors=True)


def away(house: House, name: str) -> HandOver:
    file = IdentityFile(house.place / f"{name}.json")
    file.save(Identity.new(house.url, name, IDS))
    return HandOver(file)


def home(house: House, name: str) -> HandOver:
    return HandOver(IdentityFile(house.place / f"{name}.json"))


async def command(file: Path, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "yggdrasil",
        "hand-over",
        *words,
        "--state",
        str(file),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_taken_back_the_socket_closes_for_good(house: House) -> None:
    async with await person(house, "ask"), away(house, "ask-tablet") as tablet, home(house, "ask") as at_home:
        asked = await tablet.ask("ask@example.org", "tablet", IDS)
        session = await tablet.take(asked, await house.mail.code("ask@example.org"))
        assert session is not None
        assert session.network_id == (await at_home.session()).network_id
        await tablet.register_device(name="Tablet", world="Midgard")
        connection = Connection.of(tablet.identity, tablet.token)
        async with connection:
            await connection.live()
            (given,) = await at_home.given()
            await command(house.place / "ask.json", "revoke", given["hand_over_id"])
            async with asyncio.timeout(5):
                with pytest.raises(Unauthenticated):
                    await connection.wait()
        with pytest.raises(Unauthenticated):
            await tablet.token(renew=True)
        assert "revoked" in await command(house.place / "ask.json", "list")


async def test_a_yes_by_command(house: House) -> None:
    async with await person(house, "embla"), away(house, "embla-tablet") as tablet:
        asked = await tablet.ask("embla@example.org", "tablet", IDS)
        assert await tablet.take(asked) is None
        file = house.place / "embla.json"
        assert str(asked.flow) in await command(file, "asks")
        await command(file, "approve", str(asked.flow), asked.check)
        session = await tablet.wait(asked)
        assert session.role == "owner"
        again = await tablet.ask("embla@example.org", "tablet", IDS)
        await command(file, "deny", str(again.flow))
        with pytest.raises(CodeRejected):
            await tablet.wait(again)


async def test_what_the_client_does_not_open(house: House) -> None:
    async with await person(house, "lif"), away(house, "lif-tablet") as tablet:
        asked = await tablet.ask("lif@example.org", "tablet", IDS)
        code = await house.mail.code("lif@example.org")
        key = decode_bytes(tablet.identity.public_key(), 32, "device_key")
        assert await tablet.take(asked, code) is not None
        for sealed in (b"", bytes(31), bytes(32), bytes(200), bytes(9000)):
            with pytest.raises(InvalidInput):
                open_parcel(sealed, asked.flow, key, asked.private)
        with pytest.raises(InvalidInput):
            await tablet.take(asked, "1234")


async def test_the_command_away_asks_for_the_code(house: House) -> None:
    async with await person(house, "lifthrasir"):
        file = house.place / "lifthrasir-away.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "yggdrasil", "hand-over", "ask", "lifthrasir@example.org"),
            *("--server", house.url, "--state", str(file)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        code = await house.mail.code("lifthrasir@example.org")
        out, _ = await process.communicate(f"{code}\n".encode())
        assert "handed over: network" in out.decode()
        assert process.returncode == 0
        async with HandOver(IdentityFile(file)) as tablet:
            assert (await tablet.call("GET", "/api/v1/users/me"))["role"] == "owner"
