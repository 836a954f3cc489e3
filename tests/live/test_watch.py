"""The two canary networks inside a running server: what operators read of them, and nobody else."""

from __future__ import annotations

import asyncio
import re
import shutil
import time

import httpx

from tests.conftest import make_directory
from tests.live.house import open_house, person
from tests.live.test_operators import run

SECONDS_MAX = 60.0


async def test_operators_read_how_it_stands() -> None:
    place = make_directory()
    try:
        async with (
            open_house(place, {"YGGDRASIL_ISOLATION_PROBES_PER_MINUTE": "6000"}) as house,
            httpx.AsyncClient(base_url=house.url, timeout=30) as http,
        ):
            code, out, _ = await run(house, "operator", "create", "watcher")
            assert code == 0
            credential = re.search(r"ygo_\S+", out)
            assert credential is not None
            http.headers["authorization"] = f"Bearer {credential[0]}"
            until = time.monotonic() + SECONDS_MAX
            while (health := (await http.get("/health/isolation")).json())["status"] != "ok":
                assert health["status"] == "starting"
                assert time.monotonic() < until, health
                await asyncio.sleep(0.2)
            assert (health["leaks"], health["last_leaks"], health["why_blind"]) == (0, [], None)
            assert health["probes"] >= health["places"] * 8
            assert health["last_probe_seconds_ago"] < SECONDS_MAX
            metrics = (await http.get("/metrics")).text
            assert "yggdrasil_isolation_leaks_total 0.0" in metrics
            probes = re.search(r"^yggdrasil_isolation_probes_total (\S+)$", metrics, re.MULTILINE)
            assert probes is not None
            assert float(probes[1]) >= health["probes"]
            # What the server asks itself is in no measure of requests.
            assert 'route="/api/v1/keys/{key_id}"' not in metrics
            async with await person(house, "somebody") as account:
                nobody = {"authorization": f"Bearer {await account.token()}"}
                for headers in (nobody, {"authorization": "x"}):
                    seen = await http.get("/health/isolation", headers=headers)
                    absent = await http.get("/health/nothing", headers=headers)
                    assert (seen.status_code, seen.content) == (absent.status_code, absent.content)
    finally:
        shutil.rmtree(place, ignore_errors=True)
