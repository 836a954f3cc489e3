"""The demonstration from the first process to the last figure."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from yggdrasil.demo import report
from yggdrasil.demo.cast import BUYERS, TOP_UP_CENTS, People, Seller, sellers
from yggdrasil.demo.corpus import QUESTIONS
from yggdrasil.demo.extract import CHAT_MODEL
from yggdrasil.demo.mail import CodeMail
from yggdrasil.demo.minilm import MODEL_NAME, lay_out_tokenizers
from yggdrasil.demo.processes import Process, Stage
from yggdrasil.demo.progress import Show
from yggdrasil.errors import InvalidInput, Unavailable
from yggdrasil.kernel import MICROCENTS_PER_CENT
from yggdrasil.vedrfolnir.backend import Backend, BackendError

PASSAGES: Final = 240
READY_SECONDS_MAX: Final = 120
KILL_AFTER_REQUESTS: Final = 6
SETTLE_SECONDS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller chose. `backend`: an OpenAI-compatible server for the chats, `chat_model` one of
    its models.
    """

    build: Path
    backend: str | None = None
    chat_model: str | None = None
    keep: bool = False
    picture: Path | None = None


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Story:
    """One run. Made by `tell`."""

    def __init__(self, options: Options, show: Show) -> None:
        self._options = options
        self._show = show
        self._place = options.build / "demo"
        self._data = self._place / "data"
        self._sellers: list[Seller] = []
        self._providers: dict[str, Process] = {}
        self._killed: str | None = None
        self._texts = 0
        self._counts = {"embeddings": 0, "chat": 0}
        self._tokens = {"embeddings": 0, "chat": 0}
        self._bars: dict[str, Any] = {}
        self._answer: tuple[str, str] | None = None

    async def run(self) -> report.Totals:
        """Play it. Unavailable, with the end of a log, if a process fails."""
        chat_model = await self._chat_model()
        self._sellers = sellers(self._options.backend, chat_model)
        shutil.rmtree(self._place, ignore_errors=True)
        async with AsyncExitStack() as stack:
            mail = await stack.enter_async_context(CodeMail())
            stage = await stack.enter_async_context(Stage(self._place / "logs"))
            with self._show.live():
                server, backends = await asyncio.gather(
                    self._start_server(stage, mail), self._start_backends(stage)
                )
                people = People(self._place / "devices", server, mail)
                await self._sign_in(people)
                await asyncio.gather(
                    self._talk(stage, people), self._start_providers(stage, people, server, backends)
                )
                await self._work(stage, people, chat_model or CHAT_MODEL)
                totals = await self._totals(people)
            report.show(self._show.console, totals, self._answer)
            if self._options.keep:
                await self._stay(server)
        return totals

    # ---- setting up ----------------------------------------------------------------------------------

    async def _chat_model(self) -> str | None:
        if self._options.backend is None:
            return None
        backend = Backend(self._options.backend)
        try:
            names = await backend.models()
        except BackendError as error:
            raise Unavailable(f"BACKEND: {backend.url}: {error.message}") from error
        finally:
            await backend.close()
        if not names:
            raise InvalidInput(f"BACKEND: {backend.url} lists no models", field="BACKEND")
        chosen = self._options.chat_model or names[0]
        if chosen not in names:
            raise InvalidInput(f"MODEL: {backend.url} has no {chosen!r}", field="MODEL")
        return chosen

    async def _start_server(self, stage: Stage, mail: CodeMail) -> str:
        port = free_port()
        server = f"http://127.0.0.1:{port}"
        # Both models of the stand-ins read text as MiniLM does, and are billed by its own tokenizer.
        tokenizers = self._place / "tokenizers"
        lay_out_tokenizers(tokenizers, (MODEL_NAME, CHAT_MODEL))
        environment = {
            "YGGDRASIL_SMTP_URL": mail.url,
            "YGGDRASIL_DATA_DIR": str(self._data),
            "YGGDRASIL_TOKENIZERS_DIR": str(tokenizers),
        }
        process = await stage.start("server", ["-m", "yggdrasil", "serve", "--port", str(port)], environment)
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(READY_SECONDS_MAX):
            while True:
                if not process.running:
                    raise Unavailable(f"the server ended:\n{process.tail()}")
                try:
                    if (await http.get(f"{server}/health/ready")).is_success:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        self._show.event(f"server ready at {server}, with a PostgreSQL of its own")
        return server

    async def _start_backends(self, stage: Stage) -> dict[str, str]:
        """The stand-ins' addresses by device."""

        async def start(seller: Seller) -> tuple[str, str]:
            if seller.backend is not None:
                return seller.device_id, seller.backend
            arguments = ["-m", "yggdrasil.demo.backend", "--delay-ms", str(seller.delay_ms)]
            process = await stage.start(f"{seller.device_id}-backend", arguments)
            return seller.device_id, (await process.line("listening ")).removeprefix("listening ")

        found = dict(await asyncio.gather(*(start(seller) for seller in self._sellers)))
        self._show.event(f"{len(found)} model backends loaded: {MODEL_NAME} in numpy")
        return found

    async def _sign_in(self, people: People) -> None:
        """Everybody at once, but the devices of one person one after another."""
        owners: dict[str, list[str]] = {network: list(devices) for network, devices in BUYERS}
        for seller in self._sellers:
            owners.setdefault(seller.network, []).append(seller.device_id)

        async def person(network: str, devices: Sequence[str]) -> None:
            for device in devices:
                await people.sign_in(network, device)
            await people.add_method(devices[0], top_up=network in dict(BUYERS))

        await asyncio.gather(*(person(network, devices) for network, devices in owners.items()))
        self._owners = owners
        count = sum(len(devices) for devices in owners.values())
        self._show.event(f"{len(owners)} networks signed in by e-mailed code, {count} devices registered")

    async def _start_providers(
        self, stage: Stage, people: People, server: str, backends: dict[str, str]
    ) -> None:
        async def start(seller: Seller) -> None:
            name = seller.device_id
            arguments = ["-m", "yggdrasil", "provide", "--server", server, "--backend", backends[name]]
            arguments += ["--state", str(people.file(name).path), *seller.options()]
            process = self._providers[name] = await stage.start(name, arguments)
            process.on_line = lambda line: self._provider_said(name, line)
            for _ in (*seller.models, *seller.chat_models):
                await process.line("offering ")
            self._show.event(
                f"{name} passed the connection test and sells at {seller.price_cents} cents per 1,000"
            )

        await asyncio.gather(*(start(seller) for seller in self._sellers))

    async def _talk(self, stage: Stage, people: People) -> None:
        """Two devices of one network: ask, allow, a message each way."""
        phone, pc = people.file("ask-phone").path, people.file("ask-pc").path
        listener = await stage.start(
            "ask-phone", ["-m", "yggdrasil", "listen", "--once", "--state", str(phone)]
        )
        await listener.line("listening")
        caller = await stage.start("ask-pc", ["-m", "yggdrasil", "connect", "ask-phone", "--state", str(pc)])
        await listener.line("allow a link from ask-pc?")
        await listener.write("y")
        await caller.line("connected: ask-phone")
        await caller.write("Ratatoskr, are you there?")
        await listener.line("ask-pc: Ratatoskr, are you there?")
        await listener.write("On my way up the trunk.")
        await caller.line("ask-phone: On my way up the trunk.")
        await caller.finish()
        await listener.finish()
        self._show.event("ask-pc asked, ask-phone allowed, a message went each way over their link")

    # ---- the main job --------------------------------------------------------------------------------

    def _provider_said(self, name: str, line: str) -> None:
        self._show.provider_line(name, line)
        if (
            self._killed is None
            and line.startswith("accepted embeddings")
            and self._counts["embeddings"] >= KILL_AFTER_REQUESTS
        ):
            # It has taken a job and not answered it.
            self._killed = name
            self._providers[name].kill()
            self._show.providers[name] = "killed"
            self._show.event(f"[red]{name} killed (SIGKILL) while it serves a request[/red]")

    def _requester_said(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return
        kind = said.get("event")
        if kind == "answer":
            self._answer = self._answer or (said["question"], said["answer"])
        if kind not in self._counts:
            return
        if self._counts[kind] == 0:
            self._show.event(
                f"first {kind} result in {said['seconds']:.2f} s: {said['tokens']} tokens, counted by the"
                f" tokenizer of {said['tokenizer']}"
            )
        self._counts[kind] += 1
        self._tokens[kind] += said["tokens"]
        self._texts += said.get("texts", 0)
        self._show.advance(self._bars[kind], 1, f"{self._tokens[kind]:,} tokens")

    async def _work(self, stage: Stage, people: People, chat_model: str) -> None:
        vectors = self._place / "vectors.npy"
        requests = -(-PASSAGES // 8) + len(QUESTIONS)
        self._bars = {
            "embeddings": self._show.bar("embeddings", requests),
            "chat": self._show.bar("chat", len(QUESTIONS)),
        }

        async def requester(device: str, job: str, *options: str) -> None:
            arguments = ["-m", "yggdrasil.demo.requester", job, "--state", str(people.file(device).path)]
            arguments += ["--vectors", str(vectors), "--model", MODEL_NAME, *options]
            process = await stage.start(f"{device}-{job}", arguments)
            process.on_line = self._requester_said
            await process.finish()

        await requester("ask-pc", "embed", f"--passages={PASSAGES}")
        self._show.event(f"{PASSAGES} passages embedded")
        half = len(QUESTIONS) // 2
        await asyncio.gather(
            requester("ask-pc", "ask", f"--chat-model={chat_model}", "--first=0", f"--count={half}"),
            requester("embla-pc", "ask", f"--chat-model={chat_model}", f"--first={half}", f"--count={half}"),
        )
        self._show.event(f"{self._counts['chat']} chat completions streamed by {chat_model}")

    # ---- the figures ---------------------------------------------------------------------------------

    async def _totals(self, people: People) -> report.Totals:
        balance = await self._audit()
        bought: list[dict[str, Any]] = []
        wallets: dict[str, tuple[int, int]] = {}
        for network, devices in BUYERS:
            async with people.account(devices[0]) as account:
                rows = await account.transactions()
                money = await account.balance()
            bought += [{**row, "buyer": network} for row in rows if row["side"] == "requester"]
            wallets[network] = (TOP_UP_CENTS * MICROCENTS_PER_CENT, money["wallet_posted_microcents"])
        sold: dict[str, list[dict[str, Any]]] = {}
        earned: dict[str, int] = {}
        for network in dict.fromkeys(seller.network for seller in self._sellers):
            async with people.account(self._owners[network][0]) as account:
                sold[network] = [row for row in await account.transactions() if row["side"] == "provider"]
                earned[network] = (await account.balance())["earnings_microcents"]
        killed = next((seller.network for seller in self._sellers if seller.device_id == self._killed), "")
        totals = report.Totals(
            bought=bought,
            sold=sold,
            wallets_microcents=wallets,
            earned_microcents=earned,
            balance=balance,
            devices=sum(len(devices) for devices in self._owners.values()),
            providers=len(self._sellers),
            networks=len(self._owners),
            texts=self._texts,
            chats=self._counts["chat"],
            seconds=self._show.seconds(),
            killed=killed,
        )
        totals.problems.extend(report.judge(totals))
        document = msgspec.json.format(msgspec.json.encode(totals.document()), indent=2)
        (self._options.build / "demo.json").write_bytes(document + b"\n")
        return totals

    async def _audit(self) -> dict[str, int]:
        """The trial balance, once no hold is open: the last settlement may still be on its way."""
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while True:
                balance = await self._audit_once()
                if balance["open_holds"] == 0:
                    return balance
                await asyncio.sleep(0.5)

    async def _audit_once(self) -> dict[str, int]:
        async with Stage(self._place / "logs") as stage:
            arguments = ["-m", "yggdrasil", "audit", "--json", "--data-dir", str(self._data)]
            process = await stage.start("audit", arguments)
            found: dict[str, int] = json.loads(await process.line("{"))
            return found

    async def _stay(self, server: str) -> None:
        self._show.console.print(f"The server stays at {server} with its providers; Ctrl-C ends it.")
        await asyncio.Event().wait()


async def tell(
    options: Options, show: Show, told: Callable[[report.Totals], Awaitable[None]] | None = None
) -> int:
    """Play the demonstration; the exit code."""
    totals = await Story(options, show).run()
    if told is not None:
        await told(totals)
    return 1 if totals.problems else 0
