"""A running server: what people and operators do is in the chains, and whoever may look can verify them."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.conftest import make_directory
from tests.live.house import House, Script, fund, open_house, person, selling
from yggdrasil.audit.chain import Head, Verifier
from yggdrasil.errors import YggdrasilError

SECONDS_MAX = 30


@pytest.fixture(scope="module")
async def house() -> AsyncIterator[House]:
    place = make_directory()
    async with open_house(place) as opened:
        yield opened
    shutil.rmtree(place, ignore_errors=True)


async def run(house: House, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "yggdrasil",
        *arguments,
        env=house.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def rows_of(http: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    """All pages, oldest first."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        answer = await http.get("/api/v1/audit", params={"limit": "3", **query, **more})
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        cursor = answer.json()["next"]
        if cursor is None:
            return found[::-1]


async def until(http: httpx.AsyncClient, kind: str, count: int = 1) -> list[dict[str, Any]]:
    async with asyncio.timeout(SECONDS_MAX):
        while len(rows := await rows_of(http, kind=kind)) < count:
            await asyncio.sleep(0.2)
    return rows


def as_owner_verifies(rows: list[dict[str, Any]], told: dict[str, Any]) -> object:
    """With nothing but what the two answers say."""
    network = UUID(told["network_id"])
    public = {
        name: Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        for name, key in told["public_keys"].items()
    }
    head = told["head"]
    verifier = Verifier(network, public)
    ids = ("event_id", "actor_id", "user_id", "subject_id")
    verifier.page(
        [
            row
            | {name: None if row[name] is None else UUID(row[name]) for name in ids}
            | {name: bytes.fromhex(row[name]) for name in ("hash", "previous_hash")}
            | {"at": datetime.fromisoformat(row["at"]), "network_id": network}
            for row in rows
        ],
        [
            Head(
                network,
                head["number"],
                bytes.fromhex(head["hash"]),
                datetime.fromisoformat(head["at"]),
                head["key_id"],
                bytes.fromhex(head["signature"]),
            )
        ],
    )
    return verifier.finish()


async def test_what_is_done_is_in_the_chain_of_its_network_and_no_other(house: House) -> None:
    ours, theirs = await person(house, "audit-a"), await person(house, "audit-b")
    async with ours, theirs:
        await fund(ours)
        http_a, http_b = [
            httpx.AsyncClient(
                base_url=house.url, headers={"authorization": f"Bearer {await who.token()}"}, timeout=30
            )
            for who in (ours, theirs)
        ]
        async with http_a, http_b, selling(ours, model="audit-model", script=Script()) as online:
            key = (await http_a.post("/api/v1/keys", json={"name": "my-own-laptop"})).json()
            path = f"/api/v1/keys/{key['key_id']}"
            (await http_a.post(f"{path}/rotate", json={"overlap_seconds": 60})).raise_for_status()
            by_key = httpx.AsyncClient(
                base_url=house.url, headers={"authorization": f"Bearer {key['key']}"}, timeout=30
            )
            async with by_key:
                # Something the key may ask, and is not there; and a path that is none of ours.
                assert (await by_key.get(f"/api/v1/devices/{uuid4()}")).status_code == 404
                assert (await by_key.get(f"/api/v1/marketplace/requests/{uuid4()}")).status_code == 404
                assert (await by_key.get(f"/api/v1/nothing/{uuid4()}")).status_code == 404
            (await http_a.delete(path)).raise_for_status()
            # A socket asks for a device that is not there, of the other network or of none.
            for name in (theirs.identity.device_id, "never-there"):
                with pytest.raises(YggdrasilError):
                    await online.connect(name, purpose="curious")
            me = (await http_a.get("/api/v1/users/me")).json()
            code, out = await run(house, "operator", "create", "ada")
            assert code == 0, out
            operator = {"authorization": f"Bearer {out.split('credential')[1].split()[0]}"}
            opened = await http_a.post(
                f"/api/v1/admin/networks/{me['network_id']}/open",
                json={"reason": "a complaint"},
                headers=operator,
            )
            assert opened.status_code == 200, opened.text
            await until(http_a, "opening.network")
            await until(http_a, "unknown.refused", 2)
            (await http_a.delete(f"/api/v1/devices/{ours.identity.device_id}")).raise_for_status()
            await until(http_a, "device.removed")
            rows = await rows_of(http_a)
            seen = [(row["kind"], row["actor_kind"]) for row in rows]
            for expected in [
                ("device.registered", "user"),
                ("provider.registered", "user"),
                ("key.created", "user"),
                ("key.rotated", "user"),
                ("key.revoked", "user"),
                ("unknown.refused", "key"),
                ("unknown.refused", "user"),
                ("opening.network", "operator"),
                ("device.removed", "user"),
            ]:
                assert expected in seen, (expected, seen)
            assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
            text = json.dumps(rows)
            assert "never-there" not in text
            assert "audit-a" not in text
            assert "my-own-laptop" not in text
            told = (await http_a.get("/api/v1/audit/head")).json()
            assert told["head"]["number"] == len(rows)
            assert as_owner_verifies(rows, told) is None
            rows[2]["detail"] = "{} "
            assert as_owner_verifies(rows, told) is not None
            # The other network has a chain of its own, that begins at 1 and knows nothing of it.
            others = await rows_of(http_b)
            assert [row["kind"] for row in others] == ["device.registered"]
            assert others[0]["number"] == 1
            assert me["network_id"] not in json.dumps(others)
            for query in ({"kind": "nothing"}, {"cursor": "x"}, {"limit": "0"}, {"cursor": "WyItMSJd"}):
                assert (await http_a.get("/api/v1/audit", params=query)).status_code == 400
    code, out = await run(house, "audit", "verify", "--json")
    report = json.loads(out)
    assert code == 0, report
    assert report["ok"] is True
    assert report["kept"] == report["heads"] > 3


async def test_a_scan_alerts_the_owner_and_the_operators(house: House) -> None:
    scanner = await person(house, "audit-scanner")
    async with scanner:
        headers = {"authorization": f"Bearer {await scanner.token()}"}
        async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=30) as http:
            for _ in range(40):
                assert (await http.get(f"/api/v1/devices/{uuid4().hex}")).status_code == 404
            (alert,) = await until(http, "unknown.alert")
            assert json.loads(alert["detail"]) == {"rule": "asker"}
            _, out = await run(house, "operator", "create", "bob")
            operator = {"authorization": f"Bearer {out.split('credential')[1].split()[0]}"}
            seen = (await http.get("/api/v1/admin/overview", headers=operator)).json()["alerts"]
            network = (await http.get("/api/v1/users/me")).json()["network_id"]
            assert seen["day"] >= 1
            assert network in [one["subject_id"] for one in seen["newest"]]
            metrics = (await http.get("/metrics")).text
            assert "yggdrasil_unknown_id_alerts_total 1.0" in metrics
            assert network not in metrics
    lines = [json.loads(line) for line in house.log().splitlines() if "unknown_ids_unusual" in line]
    assert len(lines) == 1
    assert network not in house.log()


async def test_a_stop_links_and_signs_what_is_left_and_a_kill_loses_nothing(house: House) -> None:
    someone = await person(house, "audit-last")
    async with someone:
        headers = {"authorization": f"Bearer {await someone.token()}"}
        async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=30) as http:
            (await http.post("/api/v1/keys", json={"name": "one"})).raise_for_status()
            house.kill()
        await house.start()
        async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=30) as http:
            await until(http, "key.created")
            (await http.post("/api/v1/keys", json={"name": "two"})).raise_for_status()
        house.stop()
    code, out = await run(house, "audit", "verify")
    assert code == 0, out
    assert out.splitlines()[-1] == "ok"
    assert "waiting" in out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("waiting")] == ["0"]
    # Without a word after it, it is the trial balance, as ever.
    code, out = await run(house, "audit", "--json")
    assert code == 0
    assert json.loads(out)["sum_microcents"] == 0
    # A head that was kept of a row that is not there: a tail that was cut off.
    file = house.data_dir / "audit_heads.jsonl"
    kept = file.read_text()
    last = json.loads(kept.splitlines()[-1])
    file.write_text(kept + json.dumps(last | {"number": last["number"] + 1}) + "\n")
    code, out = await run(house, "audit", "verify")
    assert code == 1
    assert f"BAD  network {last['network_id']}  row {last['number'] + 1}: missing" in out
    file.write_text(kept)
    await house.start()
