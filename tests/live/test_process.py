"""The server as a process: what it refuses to start with, how it stops, and what is left of it. Nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import make_directory
from tests.live.house import House, Script, chunk, free_port, fund, open_house, person, selling
from tests.live.sockets import closed_with, dial
from yggdrasil.services import READY_SECONDS_MAX
from yggdrasil.vedrfolnir.links import Job

STOP_SECONDS_MAX = 30.0
NOTICE_SECONDS_MAX = 5.0


@pytest.fixture
def place() -> Iterator[Path]:
    made = make_directory()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def fresh(place: Path) -> AsyncIterator[House]:
    async with open_house(place) as house:
        yield house


async def refused(**settings: str) -> str:
    """Start a server that must not come up; its one line."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("YGGDRASIL_")}
    given = {f"YGGDRASIL_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "yggdrasil",
        "serve",
        env={**kept, **given},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, error = await asyncio.wait_for(process.communicate(), 30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    said = error.decode()
    assert process.returncode == 1, said
    assert out == b""
    assert said.startswith("yggdrasil: "), said
    assert len(said.strip().splitlines()) == 1, said
    assert children_of(process.pid) == []
    return said


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


def runs(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


async def gone(pid: int, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while runs(pid) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return not runs(pid)


# ---- what it refuses ------------------------------------------------------------------------------------


async def test_a_taken_port_and_a_taken_data_dir(house: House, place: Path) -> None:
    said = await refused(data_dir=str(place / "data"), port=str(house.port))
    assert "port:" in said
    assert not (place / "data").exists()
    assert "data_dir:" in await refused(data_dir=str(house.data_dir), port=str(free_port()))
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{house.url}/health/ready")).status_code == 200


async def test_a_data_dir_that_cannot_be_written(place: Path) -> None:
    (place / "file").write_text("x")
    for data_dir in (place / "file", place / "file" / "below", Path("/proc/nothing")):
        said = await refused(data_dir=str(data_dir), port=str(free_port()))
        assert said.startswith("yggdrasil: data_dir: "), said
    node = place / "node"
    node.mkdir()
    (node / "node_id").write_text("no uuid")
    assert "node_id" in await refused(data_dir=str(node), port=str(free_port()))


PRODUCTION = {
    "environment": "production",
    "gateway": "none",
    "database_url": "postgresql://u:hidden-secret@127.0.0.1:1/a",
    "mimir_database_url": "postgresql://u:hidden-secret@127.0.0.1:1/b",
    "smtp_url": "smtp://127.0.0.1:2",
}


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"nonsense": "1"}, "YGGDRASIL_NONSENSE"),
        ({"port": "abc"}, "port"),
        ({"port": "0"}, "port"),
        ({"host": "0.0.0.0"}, "host"),
        ({"host": "no host at all", "behind_proxy": "true"}, "host"),
        ({"host": "192.0.2.1", "behind_proxy": "true"}, "host"),
        ({"smtp_url": "http://x"}, "SMTP URL"),
        ({"pg_bin": "/nothing"}, "pg_bin"),
        ({"tls_certificate": "/nothing", "tls_key": "/nothing"}, "tls_certificate"),
        ({"tls_certificate": "pyproject.toml", "tls_key": "pyproject.toml"}, "tls_certificate"),
        ({"environment": "production"}, "gateway"),
        ({"environment": "production", "gateway": "none"}, "database_url"),
        (PRODUCTION, "token_signing_key_file: production refuses generated keys"),
        (
            {**PRODUCTION, "environment": "development", "gateway": "sandbox"},
            "the database cannot be reached",
        ),
    ],
)
async def test_a_wrong_setting_is_named(place: Path, settings: dict[str, str], field: str) -> None:
    given = {"data_dir": str(place / "data"), "port": str(free_port()), **settings}
    said = await refused(**given)
    assert field in said
    assert "hidden-secret" not in said


# ---- how it stops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_tells_the_devices_and_finishes_what_runs(fresh: House, number: signal.Signals) -> None:
    seller, buyer, idle = [await person(fresh, name) for name in ("seller", "buyer", "idle")]
    async with seller, buyer, idle:
        await fund(seller)
        await fund(buyer, 100)
        running, go_on, probe = asyncio.Event(), asyncio.Event(), Script()

        async def slow(job: Job) -> None:
            if probe.accepted == 0:
                await probe.handle(job)  # the test of the model at registration
                return
            job.accept()
            await job.body()
            await job.send(chunk({"content": "one "}))
            running.set()
            await go_on.wait()
            await job.send(chunk({"content": "two"}))
            await job.send(chunk({}, "stop"))
            job.done(prompt_tokens=1, completion_tokens=2)

        async with selling(seller, model="slow", script=Script(serve=slow)):
            assert fresh.process is not None
            postmaster = fresh.postmaster()
            socket_of_idle = await dial(fresh, idle)
            async with httpx.AsyncClient(base_url=fresh.url, timeout=30) as http:
                asking = asyncio.create_task(
                    http.post(
                        "/v1/chat/completions",
                        json={"model": "slow", "messages": [{"role": "user", "content": "x"}]},
                        headers={"authorization": f"Bearer {await buyer.token()}"},
                    )
                )
                await running.wait()
                fresh.process.send_signal(number)
                notice = json.loads(await asyncio.wait_for(socket_of_idle.recv(), NOTICE_SECONDS_MAX))
                assert notice["type"] == "drain"
                go_on.set()
                answer = await asking
            assert answer.status_code == 200, answer.text
            assert answer.json()["choices"][0]["message"]["content"] == "one two"
            assert await closed_with(socket_of_idle, STOP_SECONDS_MAX) == 4000
            assert await asyncio.to_thread(fresh.process.wait, STOP_SECONDS_MAX) == 0
    assert not runs(postmaster)
    assert is_free(fresh.port)
    assert '"exception"' not in fresh.log()


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system has no such policy")
async def test_threads_that_wake_interrupt_none(fresh: House) -> None:
    assert fresh.process is not None
    threads = [int(path.name) for path in Path(f"/proc/{fresh.process.pid}/task").iterdir()]
    assert len(threads) > 1
    assert {os.sched_getscheduler(each) for each in threads} == {os.SCHED_BATCH}
    postmaster = fresh.postmaster()
    database = {os.sched_getscheduler(each) for each in (postmaster, *children_of(postmaster))}
    assert database == {os.SCHED_OTHER}


async def test_kill_9_leaves_nothing(fresh: House) -> None:
    assert fresh.process is not None
    postmaster, below = fresh.postmaster(), children_of(fresh.process.pid)
    assert postmaster in below
    fresh.kill()
    for pid in below:
        assert await gone(pid)
    assert is_free(fresh.port)
    await fresh.start()  # and the same data is found again


async def test_ready_says_no_quickly_when_postgresql_hangs_or_dies(fresh: House) -> None:
    assert fresh.process is not None
    postmaster = fresh.postmaster()
    async with httpx.AsyncClient(base_url=fresh.url, timeout=READY_SECONDS_MAX + 3) as http:
        assert (await http.get("/health/ready")).json() == {"database": True, "vault": True}
        hung = [postmaster, *children_of(postmaster)]
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        try:
            # Several at once, so that a pool of waiting connections does not make the later ones slower.
            answers = await asyncio.gather(*(http.get("/health/ready") for _ in range(20)))
            assert (await http.get("/health/live")).status_code == 200
        finally:
            for pid in hung:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json() == {"database": False, "vault": False}
        await until_ready(http)
        os.kill(postmaster, signal.SIGKILL)
        assert await gone(postmaster)
        assert (await http.get("/health/ready")).status_code in (200, 503)
        await until_ready(http)


async def until_ready(http: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + 20
    while (await http.get("/health/ready")).status_code != httpx.codes.OK:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
