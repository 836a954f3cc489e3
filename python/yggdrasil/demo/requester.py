"""A requester in a process of its own: holds its device's connection and buys over the OpenAI-compatible API.

    python -m yggdrasil.demo.requester embed --state FILE --vectors FILE --model NAME --passages 240
    python -m yggdrasil.demo.requester ask   --state FILE --vectors FILE --model NAME --chat-model NAME
    --first 0 --count 13

`embed` turns passages into vectors and keeps them; `ask` answers questions: it embeds each, finds the
nearest passages, and has a chat completion streamed about them. Each finished request is one JSON line
on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import numpy as np

from yggdrasil.demo.corpus import QUESTIONS, passages
from yggdrasil.errors import YggdrasilError
from yggdrasil.vedrfolnir.account import Account
from yggdrasil.vedrfolnir.connection import Connection
from yggdrasil.vedrfolnir.identity import IdentityFile

PASSAGES_PER_REQUEST: Final = 8
AT_ONCE: Final = {"embed": 3, "ask": 2}
PASSAGES_SHOWN: Final = 4
INSTRUCTION: Final = "Answer the last line from the passages before it, in one or two sentences."
TRIES_MAX: Final = 60
RETRY_SECONDS: Final = 0.25
_PASSING: Final = frozenset({429, 503})


def report(**fields: Any) -> None:
    """One JSON line."""
    print(msgspec.json.encode(fields).decode(), flush=True)


class Buyer:
    """The OpenAI-compatible API with one key."""

    def __init__(self, server: str, key: str, at_once: int) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"{server}/v1",
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(120),
            trust_env=False,
        )
        self._slots = asyncio.Semaphore(at_once)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def embed(self, texts: list[str], model: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """One vector a text."""
        async with self._slots:
            started = time.monotonic()
            for attempt in range(TRIES_MAX):
                answer = await self._http.post("/embeddings", json={"model": model, "input": texts})
                if answer.status_code not in _PASSING or attempt + 1 == TRIES_MAX:
                    break
                await asyncio.sleep(RETRY_SECONDS)  # all providers are busy
        if not answer.is_success:
            raise YggdrasilError(f"embeddings: {answer.status_code} {answer.text[:300]}")
        body = answer.json()
        report(
            event="embeddings",
            tokens=body["usage"]["total_tokens"],
            texts=len(texts),
            tokenizer=body["yggdrasil"]["tokenizer"],
            seconds=time.monotonic() - started,
        )
        return np.array([item["embedding"] for item in body["data"]], dtype=np.float32)

    async def chat(self, prompt: str, model: str) -> str:
        """A streamed completion, joined."""
        body = {
            "model": model,
            "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 512,
        }
        async with self._slots:
            for attempt in range(TRIES_MAX):
                started = time.monotonic()
                async with self._http.stream("POST", "/chat/completions", json=body) as answer:
                    if answer.status_code in _PASSING and attempt + 1 < TRIES_MAX:
                        await answer.aread()
                    elif not answer.is_success:
                        text = (await answer.aread()).decode(errors="replace")
                        raise YggdrasilError(f"chat: {answer.status_code} {text[:300]}")
                    else:
                        return await self._stream(answer, started)
                await asyncio.sleep(RETRY_SECONDS)
        raise AssertionError("unreachable")

    async def _stream(self, answer: httpx.Response, started: float) -> str:
        text: list[str] = []
        tokens, tokenizer = 0, ""
        first: float | None = None
        ended = False
        async for line in answer.aiter_lines():
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                ended = True
                continue
            chunk = msgspec.json.decode(data)
            if "error" in chunk:
                raise YggdrasilError(f"chat: broke off: {chunk['error']}")
            if chunk.get("usage"):
                tokens = chunk["usage"]["total_tokens"]
                tokenizer = chunk["yggdrasil"]["tokenizer"]
            for choice in chunk.get("choices", ()):
                if piece := choice["delta"].get("content"):
                    first = first if first is not None else time.monotonic() - started
                    text.append(piece)
        if not ended:
            raise YggdrasilError("chat: the stream ended without [DONE]")
        report(
            event="chat",
            tokens=tokens,
            tokenizer=tokenizer,
            first_seconds=first,
            seconds=time.monotonic() - started,
        )
        return "".join(text)


async def embed_passages(buyer: Buyer, options: argparse.Namespace) -> None:
    """The job's first half: many passages, some at a time."""
    texts = passages(options.passages)
    parts = [texts[i : i + PASSAGES_PER_REQUEST] for i in range(0, len(texts), PASSAGES_PER_REQUEST)]
    vectors = await asyncio.gather(*(buyer.embed(part, options.model) for part in parts))
    np.save(options.vectors, np.concatenate(vectors))


async def answer_questions(buyer: Buyer, options: argparse.Namespace) -> None:
    """The second half: questions, answered from the passages nearest to them."""
    vectors = np.load(options.vectors)
    texts = passages(len(vectors))

    async def one(question: str) -> None:
        (wanted,) = await buyer.embed([question], options.model)
        best = np.argsort(-(vectors @ wanted), kind="stable")[:PASSAGES_SHOWN]
        shown = "\n".join(texts[index] for index in best.tolist())
        answer = await buyer.chat(f"{shown}\n{question}", options.chat_model)
        report(event="answer", question=question, answer=answer)

    asked = QUESTIONS[options.first : options.first + options.count]
    await asyncio.gather(*(one(question) for question in asked))


async def work(options: argparse.Namespace) -> None:
    """Connect the device, get a key, do the job."""
    async with (
        Account(IdentityFile(options.state)) as account,
        Connection.of(account.identity, account.token),
    ):
        key = await account.create_key("demonstration")
        buyer = Buyer(account.identity.server_url, key["key"], AT_ONCE[options.job])
        try:
            await (embed_passages if options.job == "embed" else answer_questions)(buyer, options)
        finally:
            await buyer.close()


def main() -> None:
    """Read the options and run; a known failure is one line and exit code 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=("embed", "ask"))
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--chat-model", default="")
    parser.add_argument("--passages", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    options = parser.parse_args()
    try:
        asyncio.run(work(options))
    except (YggdrasilError, httpx.HTTPError) as error:
        report(event="error", message=f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
