"""Sums leak like rows do: what A traded is in nobody else's figures, and no id of the other side in A's."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.isolation.conftest import Two

EVERYTHING = ("kind,model,scope,state", "error,device,weekday,hour", "model,offer,key,device")


async def report(http: httpx.AsyncClient, side: str, group_by: str, form: str = "json") -> httpx.Response:
    asked = {"bucket": "hour", "group_by": group_by, "format": form}
    answer = await http.get(f"/api/v1/marketplace/analytics/{side}", params=asked)
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer


def cases() -> list[Any]:
    return [
        (side, dims) for side in ("provider", "requester") for dims in EVERYTHING[: 2 + (side == "requester")]
    ]


@pytest.mark.parametrize(("side", "group_by"), cases())
async def test_nobody_sees_what_a_traded(two: Two, side: str, group_by: str) -> None:
    mine = (await report(two.http_a, side, group_by)).json()
    assert mine["total"]["requests"] == len(mine["rows"]) == 1  # the control: there is something to see
    theirs = await report(two.http_b, side, group_by)
    found = theirs.json()
    assert (found["rows"], found["running"]) == ([], 0)
    assert not any(found["total"].values())
    assert found["network_total"] == {"settlements": 0, "microcents": 0}
    for form in ("json", "csv"):
        text = (await report(two.http_b, side, group_by, form)).text
        assert not [
            name
            for name in ("device", "device_id", "key", "offer", "bought", "sold")
            if two.known[name] in text
        ]


@pytest.mark.parametrize("side", ["provider", "requester"])
async def test_a_sees_its_own_devices_and_no_other(two: Two, side: str) -> None:
    """A sold to C and bought from C: C's device, network and person are in neither report."""
    mine = (await report(two.http_a, side, "device,model")).json()
    (row,) = mine["rows"]
    assert row["group"]["device"] in (two.known["device"], None)
    assert row["group"]["device_id"] in (two.known["device_id"], None)
