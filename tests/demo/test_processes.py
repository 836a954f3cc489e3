"""The demonstration's child processes and its mail server."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from yggdrasil.demo.mail import CodeMail
from yggdrasil.demo.processes import Stage
from yggdrasil.errors import Timeout, Unavailable

TALK = "print('hello'); name = input('name: '); print('hi', name)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


async def test_a_child_is_heard_answered_and_finished(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        child = await stage.start("talker", ["-c", TALK])
        assert await child.line("hello") == "hello"
        await child.line("name:")
        await child.write("Ask")
        assert await child.line("hi") == "hi Ask"
        await child.finish()
        assert not child.running
    assert "hi Ask" in (tmp_path / "talker.log").read_text()


async def test_a_child_that_fails_or_says_nothing_is_named(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        failing = await stage.start("failing", ["-c", "print('why'); raise SystemExit(3)"])
        with pytest.raises(Unavailable, match=r"(?s)failing ended with exit code 3.*why"):
            await failing.finish()
        with pytest.raises(Unavailable, match="failing ended without saying 'ready'"):
            await failing.line("ready")
        silent = await stage.start("silent", ["-c", "input()"])
        with pytest.raises(Timeout, match="silent did not say"):
            await silent.line("ready", seconds_max=0.1)


async def test_children_end_with_the_stage_even_stubborn_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yggdrasil.demo.processes.STOP_SECONDS_MAX", 0.2)
    async with Stage(tmp_path) as stage:
        stubborn = await stage.start("stubborn", ["-c", STUBBORN])
        await stubborn.line("up")
    assert not stubborn.running


async def test_settings_of_another_server_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YGGDRASIL_DATABASE_URL", "postgresql://elsewhere")
    async with Stage(tmp_path) as stage:
        command = "import os; print(sorted(name for name in os.environ if name.startswith('YGG')))"
        child = await stage.start("child", ["-c", command], {"YGGDRASIL_PORT": "1"})
        assert await child.line("[") == "['YGGDRASIL_PORT']"


async def test_codes_arrive_by_real_mail() -> None:
    async with CodeMail() as mail:
        port = int(mail.url.rpartition(":")[2])

        async def send(text: str) -> None:
            message = EmailMessage()
            message["From"], message["To"], message["Subject"] = "a@x.example", "ask@x.example", "Code"
            message.set_content(text)
            await aiosmtplib.send(message, hostname="127.0.0.1", port=port, start_tls=False)

        waiting = asyncio.create_task(mail.code("ask@x.example"))
        await send("No code: 12345678 in a line, and 123456789 in one of its own:\n123456789\n")
        await send("Your code is\n\n    01234567\n\nfor ten minutes.")
        assert await waiting == "01234567"
