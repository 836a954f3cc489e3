"""A local OpenAI-compatible server (Ollama, llama.cpp, vLLM, …) as a provider uses it.

What it says is checked before it is passed on: a document that is not what it should be is this device's
fault, told as such, and nobody pays for it. The text of a backend's error stays here: it may quote the
prompt.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import certifi
import msgspec
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from yggdrasil.vedrfolnir.address import backend_url, is_loopback
from yggdrasil.wire.limits import PAYLOAD_BYTES_MAX

ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
CONNECT_SECONDS_MAX: Final = 5
SILENCE_SECONDS_MAX: Final = 300
"""A large model may think this long before its first word; the job's own deadline is usually shorter."""

CONNECTIONS_MAX: Final = 100
IDLE_SECONDS_MAX: Final = 4
"""Of a connection. Below the five after which common servers hang up: a request must not meet that."""

MODELS_MAX: Final = 10_000
BYTES_PER_TOKEN: Final = 4
"""The usual rule of thumb, for backends that do not count."""

REST_SECONDS_MAX: Final = 0.05
"""How long a finished stream may take to end its body, so that its connection can be used again."""

_LAST: Final = b"[DONE]"
_JSON: Final = {"content-type": "application/json"}


class BackendError(Exception):
    """The backend did not answer as it should. `code` travels in `fault`; `message` holds nothing of its
    text; `status` is that of its answer, if it refused.
    """

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class Usage:
    """The backend's own count."""

    prompt_tokens: int
    completion_tokens: int


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: _Usage | None = None
    error: Any = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)


class _Embeddings(msgspec.Struct):
    data: list[msgspec.Raw]
    usage: _Usage | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class Backend:
    """One backend. `api_key` is sent to it as a bearer token, for those that want one."""

    def __init__(
        self, url: str, api_key: str | None = None, *, connections_max: int = CONNECTIONS_MAX
    ) -> None:
        self.url = backend_url(url)
        # Unpacked answers only: a few bytes must not become many before their limit is looked at.
        self._headers = {"accept": "*/*", "accept-encoding": "identity"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._connections_max = connections_max
        self._urls: dict[str, URL] = {}
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()

    def _client(self) -> aiohttp.ClientSession:
        """Made at the first request: the library wants a running loop."""
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections_max,
                    keepalive_timeout=IDLE_SECONDS_MAX,
                    ssl=_tls() if self.url.startswith("https:") else True,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX
                ),
                auto_decompress=False,
                trust_env=not is_loopback(self.url),
            )
        return self._http

    async def models(self) -> list[str]:
        """What GET /models lists. BackendError if it cannot be asked."""
        raw = b"".join([part async for part in self._bytes("GET", "/models", None)])
        try:
            listed = msgspec.json.decode(raw, type=_Models)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise BackendError("backend_garbage", "/models is no OpenAI model list") from None
        return [model.id for model in listed.data[:MODELS_MAX]]

    async def chat(self, body: bytes, model: str) -> AsyncGenerator[list[bytes] | Usage, None]:
        """The chunks of a streamed completion, each one JSON document, those that came together in one list;
        and at last its usage.
        """
        request = _with(body, model=model, stream=True, stream_options={"include_usage": True})
        usage: _Usage | None = None
        pieces = 0
        ended = said_so = False
        # Closed by name, all three: a job that is cancelled must end the backend's work at once.
        async with (
            aclosing(self._bytes("POST", "/chat/completions", request)) as parts,
            aclosing(_events(parts)) as arrivals,
        ):
            async for documents in arrivals:
                fresh: list[bytes] = []
                broken: BackendError | None = None
                for data in documents:
                    if data == _LAST:
                        ended = said_so = True
                        break
                    try:
                        chunk = _chunk(data)
                    except BackendError as error:
                        broken = error
                        break
                    usage = chunk.usage or usage
                    # A chunk without a choice carries the usage alone; that travels in `done`.
                    if chunk.choices:
                        pieces += any(
                            choice.delta is not None and choice.delta.content for choice in chunk.choices
                        )
                        ended = ended or any(choice.finish_reason is not None for choice in chunk.choices)
                        fresh.append(data)
                if fresh:
                    yield fresh
                if broken is not None:
                    raise broken
                if said_so:
                    await _rest(parts)
                    break
        if not ended:
            raise BackendError("backend_broke", "the backend's stream ended in the middle")
        if usage is not None:
            yield Usage(max(0, usage.prompt_tokens), max(0, usage.completion_tokens or 0))
        else:
            # Such servers send a token a chunk.
            yield Usage(-(-len(body) // BYTES_PER_TOKEN), pieces)

    async def embeddings(self, body: bytes, model: str) -> tuple[bytes, Usage]:
        """The whole answer, and its usage."""
        request = _with(body, model=model)
        raw = b"".join([part async for part in self._bytes("POST", "/embeddings", request)])
        try:
            answer = msgspec.json.decode(raw, type=_Embeddings)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise BackendError("backend_garbage", "the backend sent no embeddings answer") from None
        tokens = answer.usage.prompt_tokens if answer.usage else -(-len(body) // BYTES_PER_TOKEN)
        return raw, Usage(max(0, tokens), 0)

    async def _bytes(self, method: str, path: str, body: bytes | None) -> AsyncGenerator[bytes, None]:
        """The body of a successful answer as it comes, bounded."""
        headers = _JSON if body is not None else None
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(self.url + path)
        taken = 0
        try:
            async with self._client().request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                if not 200 <= answer.status < 300:
                    answer.close()  # what else it says is not read
                    kind = "backend_refused" if 400 <= answer.status < 500 else "backend_failed"
                    raise BackendError(
                        kind, f"the backend answered {answer.status} to {path}", status=answer.status
                    )
                try:
                    while part := await answer.content.readany():
                        taken += len(part)
                        if taken > ANSWER_BYTES_MAX:
                            raise BackendError(
                                "backend_garbage", f"the answer is over {ANSWER_BYTES_MAX} bytes"
                            )
                        yield part
                finally:
                    # Left in the middle, however: the backend's work must end now.
                    if not answer.content.at_eof():
                        answer.close()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise BackendError("backend_unreachable", "the backend is not there") from None
        except TimeoutError:
            raise BackendError("backend_timeout", "the backend is silent") from None
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError):
            raise BackendError("backend_broke", "the connection to the backend broke") from None


def _tls() -> ssl.SSLContext:
    """Trusts what SSL_CERT_FILE or SSL_CERT_DIR name, else the bundle that is pinned with this program."""
    named = "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ
    return ssl.create_default_context(cafile=None if named else certifi.where())


def _with(body: bytes, **fields: Any) -> bytes:
    """The requester's body with our own members on top; the rest passes as it is, unread."""
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise BackendError("invalid_input", "the job's body is no JSON object") from None
    ours = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    return msgspec.json.encode(members | ours)


def _chunk(data: bytes) -> _Chunk:
    try:
        chunk = _CHUNK.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise BackendError("backend_garbage", "the backend sent no chat.completion.chunk") from None
    if chunk.error is not None:
        raise BackendError("backend_failed", "the backend reported an error in its stream")
    return chunk


async def _rest(parts: AsyncGenerator[bytes, None]) -> None:
    """Read a body to its end after its last word: a connection left in the middle must be dialled anew."""
    with suppress(TimeoutError, BackendError):
        async with asyncio.timeout(REST_SECONDS_MAX):
            async for _ in parts:
                pass


async def _events(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[list[bytes], None]:
    """The data of the server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)
    that each part completes.

    Lines end in LF, CR or CRLF; several `data:` lines of one event are joined; comments and other fields
    are dropped.
    """
    rest = b""
    data: list[bytes] = []
    after_return = False
    async for part in parts:
        # CRLF cut in two by the network must not count as two line ends.
        fresh = part[1:] if after_return and part.startswith(b"\n") else part
        after_return = part.endswith(b"\r")
        *lines, rest = (rest + fresh).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if len(rest) > PAYLOAD_BYTES_MAX + 16:
            raise BackendError("backend_garbage", "one event of the backend's stream is too long")
        whole: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                whole.append(b"\n".join(data))
                data = []
        if any(len(event) > PAYLOAD_BYTES_MAX for event in whole):
            raise BackendError("backend_garbage", "one event of the backend's stream is too long")
        if whole:
            yield whole
    if data:  # some servers leave out the last empty line
        yield [b"\n".join(data)]
