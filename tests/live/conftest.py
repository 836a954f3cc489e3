"""One live server for these tests."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest

from tests.conftest import make_directory
from tests.live.house import House, open_house


@pytest.fixture(scope="package")
async def house() -> AsyncIterator[House]:
    place = make_directory()
    async with open_house(place) as opened:
        yield opened
    shutil.rmtree(place, ignore_errors=True)
