"""What an operator can read: nothing of a person, a device, a network, a secret or a prompt, at any level."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.conftest import make_directory
from tests.live.house import House, Script, chunk, fund, person, selling
from tests.live.sockets import call, dial, knock, metric_becomes
from yggdrasil.demo.mail import CodeMail
from yggdrasil.observe import _LineFormatter, traceback_without_data
from yggdrasil.vedrfolnir.links import Job

PROMPT, ANSWER, PATH = "prompt-marker-4711", "answer-marker-4712", "path-marker-4713"


class KeepingMail(CodeMail):
    """Keeps the codes it gave out."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    async def code(self, address: str) -> str:
        self.given.append(await super().code(address))
        return self.given[-1]


class Talkative(House):
    """A server that logs all it can."""

    mail: KeepingMail

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "YGGDRASIL_LOG_LEVEL": "debug"}


@pytest.fixture
async def talkative() -> AsyncIterator[Talkative]:
    place = make_directory()
    async with KeepingMail() as mail:
        house = Talkative(place, mail)
        await house.start()
        try:
            yield house
        finally:
            if house.process is not None and house.process.poll() is None:
                house.stop()
            shutil.rmtree(place, ignore_errors=True)


async def answering(job: Job) -> None:
    job.accept()
    await job.body()
    await job.send(chunk({"content": ANSWER}))
    await job.send(chunk({}, "stop"))
    job.done(prompt_tokens=1, completion_tokens=5)


async def test_neither_log_nor_metrics_tell_of_anybody(talkative: Talkative) -> None:
    house = talkative
    seller = await person(house, "log-seller", device_id="log-device-4714")
    buyer = await person(house, "log-buyer", device_id="log-device-4715")
    async with seller, buyer:
        await fund(seller)
        await fund(buyer, 100)
        token = await buyer.token()
        key = (await buyer.create_key("log-key-4716"))["key"]
        await call(house, "PUT", "/api/v1/users/me", token, json={"display_name": "Display-4717"})
        chat = {"model": "log-model", "messages": [{"role": "user", "content": PROMPT}]}
        async with selling(seller, model="log-model", script=Script(serve=answering)):
            for stream in (False, True):
                answer = await call(
                    house, "POST", "/v1/chat/completions", key, json={**chat, "stream": stream}
                )
                assert ANSWER in answer.text
            await metric_becomes(house, "yggdrasil_offers_online", 1)
        # Every kind of refusal, with a marker in it.
        for path in (f"/api/v1/devices/{PATH}", f"/v1/models/{PATH}", f"/{PATH}", f"/api/v1/keys?{PATH}=1"):
            assert (await call(house, "GET", path, token)).status_code in (400, 404)
        await call(house, "POST", "/api/v1/keys", token, json={PATH: PATH})
        await call(house, "GET", "/api/v1/users/me", "token-marker-4718")
        await call(house, "POST", "/api/v1/devices", token, json={"device_id": "log-device-4715"})
        socket = await knock(house)
        hello = {"type": "hello", "token": "token-marker-4718", "device_id": PATH, "proof": "A" * 86}
        await socket.send(json.dumps(hello))
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
        (await dial(house, buyer)).transport.abort()
        session = await buyer.session()
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{house.url}/metrics")).text
        devices = await buyer.devices()
        secrets = {
            "address": "log-buyer@",
            "name of a person": "Display-4717",
            "device": "log-device",
            "name of a key": "log-key-4716",
            "key": key,
            "access token": token,
            "wrong token": "token-marker-4718",
            "prompt": PROMPT,
            "answer": ANSWER,
            "path": PATH,
            "network": str(session.network_id),
            "user": devices[0]["user_id"],
            "internal device": devices[0]["id"],
            "model": "log-model",
            **{f"code {number}": code for number, code in enumerate(house.mail.given)},
        }
    assert house.stop() == 0
    log = house.log()
    found = [name for name, secret in secrets.items() if secret in log]
    assert not found, [line for line in log.splitlines() if any(secrets[name] in line for name in found)][:5]
    assert [name for name, secret in secrets.items() if secret in metrics] == []
    # The control: requests and the sockets' count are there, by template.
    assert '"route": "/api/v1/devices/{device_id}"' in log
    assert 'route="/api/v1/devices/{device_id}"' in metrics
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"ready", "request", "draining", "stopped"} <= {line["event"] for line in lines}
    assert not [line for line in lines if "exception" in line]


def test_an_exception_is_logged_without_what_it_quotes() -> None:
    quoted = "-".join(("quoted", "row"))  # the traceback shows our source, which may not hold it

    def fails() -> None:
        try:
            raise LookupError(f"DETAIL: Key (device_id)=({quoted}) already exists.")
        except LookupError as cause:
            raise ValueError(quoted) from cause

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_LineFormatter())
    with pytest.raises(ValueError, match=quoted) as caught:
        fails()
    told = traceback_without_data(caught.value)
    about = (ValueError, caught.value, None)
    handler.handle(logging.LogRecord("asyncio", logging.ERROR, "", 0, f"late\n{quoted}", None, about))
    line = json.loads(stream.getvalue())
    assert line["event"] == "late"
    for text in (told, line["exception"]):
        assert quoted not in text
        assert "builtins.ValueError" in text
        assert "builtins.LookupError" in text
        assert "in fails" in text
    with pytest.raises(TypeError) as bug:
        len(5)  # type: ignore[arg-type]
    assert "has no len()" in traceback_without_data(bug.value)
