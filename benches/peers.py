"""The peers: their own environment, and how each is started."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.live.house import free_port

from benches.backend import MODEL
from benches.client import BenchError
from benches.machine import SERVER_CORE
from benches.processes import running
from benches.world import World

HOME: Final = Path("build/bench")
PINS: Final = Path("requirements/bench.txt")
REST_PINS: Final = Path("requirements/bench-rest.txt")
_PYTHON: Final = HOME / "venv/bin/python"
MASTER_KEY: Final = "sk-bench"

_LITELLM: Final = """
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: http://127.0.0.1:{port}/v1
      api_key: none
general_settings:
  master_key: {key}
litellm_settings:
  set_verbose: false
  telemetry: false
  request_timeout: 60
  num_retries: 0
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running peer."""

    name: str
    port: int
    pid: int


def prepare(groups: list[str]) -> None:
    """The environment of the peers, made once for its pins; LiteLLM, which is large, only if measured."""
    pins = PINS if "gateway" in groups else REST_PINS
    stamp = HOME / "venv/.pins"
    if stamp.exists() and stamp.read_bytes() in (PINS.read_bytes(), pins.read_bytes()):
        return
    print("→ environment of the peers in build/bench/venv", file=sys.stderr)
    uv = Path(sys.executable).with_name("uv")
    HOME.mkdir(parents=True, exist_ok=True)
    into = ["--compile-bytecode", "--python", str(_PYTHON)]
    for command in (
        [str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(HOME / "venv")],
        [str(uv), "pip", "install", "--quiet", *into, "--require-hashes", "-r", str(pins)],
    ):
        subprocess.run(command, check=True)  # noqa: S603  our own command
    stamp.write_bytes(pins.read_bytes())


def _pinned(package: str) -> str:
    for line in PINS.read_text().splitlines():
        name, _, version = line.partition("==")
        if name == package:
            return version.split()[0]
    raise BenchError(f"{PINS} does not pin {package}")


@contextlib.asynccontextmanager
async def fastapi(world: World, *, tuned: bool) -> AsyncIterator[Peer]:
    """FastAPI, uvicorn and asyncpg over the server's own database, as the server's own role."""
    port = free_port()
    name = f"fastapi{'-tuned' if tuned else ''} {_pinned('fastapi')}"
    settings = {"tuned": tuned, "public_key": world.public_key(), "database": world.database("ygg_network")}
    async with running(
        [str(_PYTHON), "benches/peer_devices.py", str(port)],
        core=SERVER_CORE,
        log=world.house.place / f"fastapi-{'tuned' if tuned else 'plain'}.log",
        ready_url=f"http://127.0.0.1:{port}/openapi.json",
        stdin=json.dumps(settings).encode(),
    ) as pid:
        yield Peer(name, port, pid)


@contextlib.asynccontextmanager
async def litellm(world: World) -> AsyncIterator[Peer]:
    """The LiteLLM proxy before the same backend: one worker, a master key, no database of its own."""
    port = free_port()
    config = world.house.place / "litellm.yaml"
    config.write_text(_LITELLM.format(model=MODEL, port=world.backend_port, key=MASTER_KEY))
    command = [str(_PYTHON.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    async with running(
        command,
        core=SERVER_CORE,
        log=world.house.place / "litellm.log",
        ready_url=f"http://127.0.0.1:{port}/health/liveliness",
        environment={
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "NO_PROXY": "127.0.0.1",
        },
    ) as pid:
        yield Peer(f"litellm {_pinned('litellm')}", port, pid)
