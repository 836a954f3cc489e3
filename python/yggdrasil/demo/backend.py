"""A small OpenAI-compatible server on loopback for the demonstration: real embeddings, extractive chat.

    python -m yggdrasil.demo.backend --port 0 --delay-ms 20

prints one line, `listening http://127.0.0.1:PORT/v1`, once it can answer. Standard library HTTP: one
process serves one provider, and the arithmetic, not the parsing, is its whole cost.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any, Final, Literal

import msgspec

# Several of these share one small machine: without this each would start a thread a core for every product.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from yggdrasil.demo.extract import CHAT_MODEL, Message, answer, pieces
from yggdrasil.demo.minilm import MODEL_NAME, TEXTS_MAX, MiniLM
from yggdrasil.errors import InvalidInput, NotFound, TooLarge, YggdrasilError

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
SOCKET_SECONDS_MAX: Final = 60
DELAY_MS_MAX: Final = 60_000

_Text = Annotated[str, msgspec.Meta(max_length=200_000)]


class EmbeddingsRequest(msgspec.Struct):
    """The body of POST /v1/embeddings; unknown members are ignored, as OpenAI's servers do."""

    model: str
    input: _Text | Annotated[list[_Text], msgspec.Meta(min_length=1, max_length=TEXTS_MAX)]
    encoding_format: Literal["float", "base64"] = "float"


class ContentPart(msgspec.Struct):
    """One part of a message in parts."""

    type: Literal["text"]
    text: _Text


class ChatMessage(msgspec.Struct):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | list[ContentPart]

    def plain(self) -> Message:
        """The message with its parts joined."""
        if isinstance(self.content, str):
            return Message(self.role, self.content)
        return Message(self.role, "\n".join(part.text for part in self.content))


class StreamOptions(msgspec.Struct):
    """What a stream carries besides text."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1, max_length=256)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Backend:
    """What the server answers, apart from HTTP."""

    def __init__(self, model: MiniLM, delay_ms: int) -> None:
        self._model = model
        self._one_at_a_time = threading.Lock()
        self._number = 0
        self.delay_ms = delay_ms

    def models(self) -> dict[str, Any]:
        """GET /v1/models."""
        return {
            "object": "list",
            "data": [
                {"id": name, "object": "model", "created": 0, "owned_by": "demo"}
                for name in (MODEL_NAME, CHAT_MODEL)
            ],
        }

    def embeddings(self, request: EmbeddingsRequest) -> dict[str, Any]:
        """POST /v1/embeddings."""
        _is_model(request.model, MODEL_NAME)
        texts = [request.input] if isinstance(request.input, str) else request.input
        with self._one_at_a_time:
            embedded = self._model.embed(texts)
        time.sleep(self.delay_ms / 1000)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if request.encoding_format == "base64"
                else [round(value, 7) for value in vector.tolist()],
            }
            for index, vector in enumerate(embedded.vectors)
        ]
        total = sum(embedded.tokens)
        usage = {"prompt_tokens": total, "total_tokens": total}
        return {"object": "list", "model": request.model, "data": data, "usage": usage}

    def chat(self, request: ChatRequest) -> tuple[str, list[str], str, dict[str, int]]:
        """POST /v1/chat/completions: (id, pieces of text, finish reason, usage)."""
        _is_model(request.model, CHAT_MODEL)
        messages = [message.plain() for message in request.messages]
        with self._one_at_a_time:
            parts = list(pieces(answer(self._model, messages)))
            # The tokenizer's two marks are no part of a chat: counted, they would be charged.
            prompt = sum(count - 2 for count in self._model.count([message.content for message in messages]))
            self._number += 1
            name = f"chatcmpl-{os.getpid()}-{self._number}"
        limit = request.max_completion_tokens or request.max_tokens
        finish = "length" if limit is not None and limit < len(parts) else "stop"
        parts = parts[:limit]
        completion = self._model.count(["".join(parts)])[0] - 2
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        return name, parts, finish, usage


def _is_model(name: str, wanted: str) -> None:
    if name != wanted:
        raise NotFound(f"model: this route serves {wanted!r}", field="model")


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 around a Backend; `server` is a Server."""

    protocol_version = "HTTP/1.1"
    timeout = SOCKET_SECONDS_MAX
    server: Server

    def do_GET(self) -> None:
        """GET /v1/models."""
        if self.path == "/v1/models":
            self._json(200, self.server.backend.models())
        else:
            self._error(NotFound(f"path: no {self.path}"))

    def do_POST(self) -> None:
        """POST /v1/embeddings and /v1/chat/completions."""
        try:
            body = self._body()
            if self.path == "/v1/embeddings":
                self._json(
                    200, self.server.backend.embeddings(msgspec.json.decode(body, type=EmbeddingsRequest))
                )
            elif self.path == "/v1/chat/completions":
                self._chat(msgspec.json.decode(body, type=ChatRequest))
            else:
                raise NotFound(f"path: no {self.path}")
        except msgspec.DecodeError as bad:
            self._error(InvalidInput(f"body: {bad}", field="body"))
        except YggdrasilError as known:
            self._error(known)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self.close_connection = True
            raise InvalidInput("Content-Length: a whole number of bytes is needed", field="Content-Length")
        if int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            raise TooLarge(f"body: at most {BODY_BYTES_MAX} bytes", field="body")
        return self.rfile.read(int(length))

    def _chat(self, request: ChatRequest) -> None:
        backend = self.server.backend
        name, parts, finish, usage = backend.chat(request)
        if not request.stream:
            message = {"role": "assistant", "content": "".join(parts)}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            time.sleep(backend.delay_ms * len(parts) / 1000)
            self._json(200, _chat_object(name, "chat.completion", request.model, [choice]) | {"usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for index, part in enumerate(parts):
            time.sleep(backend.delay_ms / 1000)
            delta = {"content": part} if index else {"role": "assistant", "content": part}
            self._event(name, request.model, [{"index": 0, "delta": delta, "finish_reason": None}])
        self._event(name, request.model, [{"index": 0, "delta": {}, "finish_reason": finish}])
        if request.stream_options is not None and request.stream_options.include_usage:
            self._event(name, request.model, [], usage)
        self._part(b"data: [DONE]\n\n")
        self._part(b"")

    def _event(
        self, name: str, model: str, choices: list[dict[str, Any]], usage: dict[str, int] | None = None
    ) -> None:
        chunk = _chat_object(name, "chat.completion.chunk", model, choices)
        if usage is not None:
            chunk["usage"] = usage
        self._part(b"data: " + msgspec.json.encode(chunk) + b"\n\n")

    def _part(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _json(self, status: int, document: Any) -> None:
        body = msgspec.json.encode(document)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _error(self, error: YggdrasilError) -> None:
        shape = {
            "message": error.detail,
            "type": "invalid_request_error",
            "code": error.code,
            "param": error.field,
        }
        self._json(error.status, {"error": shape})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's signature
        """Silent: prompts and paths are the users'."""


def _chat_object(name: str, kind: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": name, "object": kind, "created": int(time.time()), "model": model, "choices": choices}


class Server(ThreadingHTTPServer):
    """One thread a connection, on loopback."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, backend: Backend) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.backend = backend

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news; anything else is printed."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port and prints it")
    parser.add_argument(
        "--delay-ms", type=int, default=0, help="wait before each word, and after each embeddings batch"
    )
    options = parser.parse_args()
    if not 0 <= options.port <= 65_535:
        parser.error("--port must be 0 to 65535")
    if not 0 <= options.delay_ms <= DELAY_MS_MAX:
        parser.error(f"--delay-ms must be 0 to {DELAY_MS_MAX}")
    server = Server(options.port, Backend(MiniLM(), options.delay_ms))
    print(f"listening http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
