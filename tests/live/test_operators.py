"""The operators' commands beside a running server, and what their credential opens there."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import httpx

from tests.live.house import House, Script, fund, person, selling


async def run(house: House, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "yggdrasil",
        *arguments,
        env=house.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


async def test_a_request_is_explained_and_its_owner_reads_of_it(house: House) -> None:
    seller, buyer = await person(house, "explain-seller"), await person(house, "explain-buyer")
    async with seller, buyer:
        await fund(seller)
        await fund(buyer, 100)
        headers = {"authorization": f"Bearer {await buyer.token()}"}
        async with (
            selling(seller, model="explain-model", script=Script(words=3)),
            httpx.AsyncClient(base_url=house.url, headers=headers, timeout=30) as http,
        ):
            body = {"model": "explain-model", "messages": [{"role": "user", "content": "hello"}]}
            answer = await http.post("/v1/chat/completions", json=body)
            request = answer.headers["x-yggdrasil-transaction"]
            code, out, _ = await run(house, "explain", request, "--reason", "was it slow", "--json")
            assert code == 0
            found = json.loads(out)
            assert found["request_id"] == request
            assert [one["state"] for one in found["attempts"]] == ["completed"]
            assert sum(one["amount_microcents"] for one in found["entries"]) == 0
            assert "hello" not in out
            code, out, _ = await run(house, "explain", request, "--reason", "for people")
            assert code == 0
            assert "attempt 1 completed" in out
            opened = (await http.get("/api/v1/users/me/openings")).json()["items"]
            assert [one["reason"] for one in opened] == ["for people", "was it slow"]
            refused = [
                await run(house, "explain", request, "--reason", "no"),
                await run(house, "explain", request),
                await run(house, "explain", "nonsense", "--reason", "a question"),
                await run(house, "explain", request[:-12] + "0" * 12, "--reason", "a question"),
            ]
            assert all(code != 0 and not out for code, out, _ in refused[:1] + refused[2:])
            assert refused[1][0] != 0
            assert "no request has this id" in refused[3][2]
            assert len((await http.get("/api/v1/users/me/openings")).json()["items"]) == 2


async def test_an_operator_is_made_sees_the_overview_and_is_revoked(house: House) -> None:
    code, out, error = await run(house, "operator", "create", "Ada")
    assert code == 0, error
    made = re.search(r"operator +(\S+) +Ada\ncredential +(ygo_\S+)", out)
    assert made is not None
    headers = {"authorization": f"Bearer {made[2]}"}
    async with httpx.AsyncClient(base_url=house.url, timeout=30) as http:
        never = await http.get("/api/v1/admin/overview")
        assert never.status_code == 404
        seen = await http.get("/api/v1/admin/overview", headers=headers)
        assert seen.status_code == 200
        told = seen.json()
        assert told["ledger"]["sound"] is True
        assert told["node"]["reconciled_at"] is not None
        assert told["counts"]["nodes_live"] == 1
        assert (await run(house, "operator", "list"))[1].count("works") == 1
        assert (await run(house, "operator", "revoke", made[1]))[0] == 0
        assert (await run(house, "operator", "revoke", made[1]))[0] != 0
        assert made[2] not in (await run(house, "operator", "list"))[1]
        after = await http.get("/api/v1/admin/overview", headers=headers)
        assert (after.status_code, after.content) == (404, never.content)
    assert (await run(house, "operator", "create", "two\nlines"))[0] != 0
