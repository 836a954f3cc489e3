"""A running server's services and application in this process, with the watch set on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import pytest
from litestar import Litestar

from tests.conftest import make_directory
from yggdrasil.app import create_app
from yggdrasil.config import Settings
from yggdrasil.sentinel.sentinel import Sentinel
from yggdrasil.services import Services, build

PROBES_PER_MINUTE = 480


@dataclass
class Watch:
    """`once_more` goes on until every probe was made once more."""

    services: Services
    app: Litestar
    sentinel: Sentinel

    async def settled(self) -> None:
        """The canaries own what they own, and no probe was made."""
        for canary in self.sentinel._canaries:
            await canary.settle_in()
        self.sentinel._settled = True

    async def once_more(self) -> None:
        rounds = self.sentinel.health().rounds
        while self.sentinel.health().rounds == rounds:
            await self.sentinel.run_once()
            if self.sentinel.health().status == "blind":
                return


@pytest.fixture(scope="package")
async def place() -> AsyncIterator[Path]:
    made = make_directory()
    yield made
    rmtree(made, ignore_errors=True)


@pytest.fixture(scope="package")
async def services(place: Path) -> AsyncIterator[Services]:
    settings = Settings(data_dir=place / "data", isolation_probes_per_minute=PROBES_PER_MINUTE)
    async with build(settings) as made:
        yield made


@pytest.fixture
async def watch(services: Services) -> Watch:
    """A watch of its own for each test, on the server of all."""
    app = create_app(services)
    sentinel = Sentinel(
        services.users,
        services.clock,
        services.ids,
        node_id=services.ids.uuid(),
        probes_per_minute=PROBES_PER_MINUTE,
    )
    sentinel.watch(app)
    return Watch(services, app, sentinel)
