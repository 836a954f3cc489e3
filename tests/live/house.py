"""A real server in its own process, real mail, people with real devices: what live tests are made of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from yggdrasil.config import load_keys, load_settings
from yggdrasil.db import Database
from yggdrasil.db.bootstrap import attach
from yggdrasil.demo.mail import CodeMail
from yggdrasil.kernel import SystemClock, SystemIds
from yggdrasil.vedrfolnir.account import Account, Model
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.identity import Identity, IdentityFile
from yggdrasil.vedrfolnir.links import Job

READY_SECONDS_MAX = 60.0
IDS = SystemIds()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class House:
    """One server's directory, port and process. `kill` is SIGKILL; `start` again finds the same data."""

    place: Path
    mail: CodeMail
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    more: dict[str, str] = field(default_factory=dict)
    """More of its environment."""
    command: tuple[str, ...] = ("-m", "yggdrasil", "serve")
    """What Python runs."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data_dir(self) -> Path:
        return self.place / "data"

    def environment(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("YGGDRASIL_")}
        return {
            **mine,
            "YGGDRASIL_DATA_DIR": str(self.data_dir),
            "YGGDRASIL_PORT": str(self.port),
            "YGGDRASIL_SMTP_URL": self.mail.url,
            "YGGDRASIL_MAIL_FROM": "yggdrasil@example.org",
            "YGGDRASIL_LOG_LEVEL": "warning",
            # Two networks more would be in every count; tests of the watch set a budget.
            "YGGDRASIL_ISOLATION_PROBES_PER_MINUTE": "0",
            # Tests ask faster than people do.
            "YGGDRASIL_TIER_DEFAULT": "enterprise",
            "YGGDRASIL_SIGN_INS_PER_ADDRESS_PER_MINUTE": "60000",
            **self.more,
        }

    async def start(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        with (self.place / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_SECONDS_MAX
        async with httpx.AsyncClient() as http:
            while True:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the server did not come up:\n{self.log()[-4000:]}")
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"{self.url}/health/ready")).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(0.05)

    def log(self) -> str:
        return (self.place / "server.log").read_text(errors="replace")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=40)

    def postmaster(self) -> int:
        """The pid of the embedded PostgreSQL: the server's child whose command is `postgres`."""
        assert self.process is not None
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                    if parent == self.process.pid and b"postgres" in (entry / "cmdline").read_bytes():
                        return int(entry.name)
        raise AssertionError("the server has no PostgreSQL child")

    async def audit(self) -> dict[str, int]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "yggdrasil",
            "audit",
            "--json",
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, error = await process.communicate()
        assert out, error.decode()
        books: dict[str, int] = json.loads(out)
        return books

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The database of the running server, beside it."""
        settings = load_settings(self.environment())
        async with attach(settings, load_keys(settings), SystemClock(), IDS) as database:
            yield database


@contextlib.asynccontextmanager
async def open_house(place: Path, more: dict[str, str] | None = None) -> AsyncIterator[House]:
    """A running server; stopped, and its processes gone, at the end."""
    async with CodeMail() as mail:
        house = House(place, mail, more=more or {})
        await house.start()
        try:
            yield house
        finally:
            if house.process is not None and house.process.poll() is None:
                house.stop()


async def person(house: House, name: str, *, device_id: str | None = None) -> Account:
    """Somebody signed in with a registered device. The caller closes the account."""
    file = IdentityFile(house.place / f"{name}.json")
    file.save(Identity.new(house.url, device_id or f"{name}-device", IDS))
    account = Account(file)
    address = f"{name}@example.org"
    flow = await account.begin(address)
    await account.verify(flow, await house.mail.code(address))
    await account.register_device(name=name.title(), world="Alfheim")
    return account


async def fund(account: Account, cents: int = 0) -> UUID:
    """A verified sandbox method, and `cents` in the wallet."""
    method = await account.add_payment_method(kind="sandbox", gateway_token="sandbox_ok", purpose="both")
    method_id = UUID(method["method_id"])
    await account.verify_payment_method(method_id)
    if cents:
        await account.top_up(method_id, cents, IDS.secret(8).hex())
    return method_id


@dataclass
class Script:
    """How a provider's device behaves: words `pause_seconds` apart, or whatever `serve` does."""

    words: int = 5
    pause_seconds: float = 0.0
    accepted: int = 0
    serve: Callable[[Job], Awaitable[None]] | None = None

    async def handle(self, job: Job) -> None:
        if self.serve is not None:
            await self.serve(job)
            return
        job.accept()
        self.accepted += 1
        body = json.loads(await job.body())
        if job.kind == "embeddings":
            inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [
                {"object": "embedding", "index": i, "embedding": [0.5, -0.5]} for i, _ in enumerate(inputs)
            ]
            await job.send(
                json.dumps({"object": "list", "data": data, "model": job.model, "usage": {}}).encode()
            )
            job.done(prompt_tokens=len(inputs), completion_tokens=0)
            return
        for number in range(self.words):
            await job.send(chunk({"content": f"word{number} "}))
            if self.pause_seconds:
                await asyncio.sleep(self.pause_seconds)
        await job.send(chunk({}, "stop"))
        job.done(prompt_tokens=1, completion_tokens=self.words * 3)


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    """One `chat.completion.chunk`, with things in it that must not reach the requester."""
    return json.dumps(
        {
            "id": "backend-secret-id",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "backend-name",
            "system_fingerprint": "fp_secret",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
    ).encode()


@contextlib.asynccontextmanager
async def selling(
    account: Account,
    *,
    model: str,
    script: Script,
    price_cents: int = 3,
    kind: str = "chat",
    capacity_jobs: int = 64,
    audience: str = "market",
    context_tokens_max: int = 8192,
) -> AsyncIterator[Connection]:
    """The account's device online and offering `model`."""
    connection = Connection.of(account.identity, account.token)
    connection.on_job(script.handle)
    async with connection:
        await connection.live()
        await account.register_provider(
            [Model(model, kind, price_cents, 1000, context_tokens_max)],  # type: ignore[arg-type]
            audience=audience,
            capacity_jobs=capacity_jobs,  # type: ignore[arg-type]
        )
        yield connection
