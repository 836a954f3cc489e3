"""The demonstration's backend over real HTTP, as a process and through the official client."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

import openai
from yggdrasil.demo.extract import CHAT_MODEL, NO_TEXT, Message, pieces, question_and_text
from yggdrasil.demo.minilm import MODEL_NAME

TEXT = "Yggdrasil is an ash tree. Its roots reach three wells. Ratatoskr carries messages along the trunk."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "yggdrasil.demo.backend", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        word, _, address = process.stdout.readline().strip().partition(" ")
        assert word == "listening"
        yield address
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list().data] == [MODEL_NAME, CHAT_MODEL]


def test_embeddings_in_both_encodings_agree(client: openai.OpenAI, url: str) -> None:
    made = client.embeddings.create(model=MODEL_NAME, input=["one", "two two"])  # asks for base64
    plain = httpx.post(f"{url}/embeddings", json={"model": MODEL_NAME, "input": ["one", "two two"]}).json()
    assert made.usage.prompt_tokens == plain["usage"]["prompt_tokens"] == 7
    for ours, theirs in zip(made.data, plain["data"], strict=True):
        np.testing.assert_allclose(ours.embedding, theirs["embedding"], atol=1e-6)
    packed = httpx.post(
        f"{url}/embeddings", json={"model": MODEL_NAME, "input": "one", "encoding_format": "base64"}
    ).json()
    assert len(base64.b64decode(packed["data"][0]["embedding"])) == 384 * 4


def test_chat_streams_the_nearest_sentences_word_by_word(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": f"{TEXT}\nWho carries messages?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Ratatoskr carries messages along the trunk." in text
    assert set(text.split(". ")) < set(TEXT.split(". "))
    assert len(chunks) == len(text.split(" ")) + 2
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens >= len(text.split())


def test_chat_without_stream_is_the_same_text_and_obeys_max_tokens(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(
        model=CHAT_MODEL,
        messages=[{"role": "user", "content": f"{TEXT}\nWho carries messages?"}],
        max_tokens=3,
    )
    assert len((whole.choices[0].message.content or "").split()) == 3
    assert whole.choices[0].finish_reason == "length"


def test_chat_without_text_says_so(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(model=CHAT_MODEL, messages=[{"role": "user", "content": "Who?"}])
    assert made.choices[0].message.content == NO_TEXT


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/embeddings", b"{", 400, "body"),
        ("/embeddings", b'{"model": "other", "input": "x"}', 404, "model"),
        ("/embeddings", b'{"model": "all-minilm-l6-v2", "input": []}', 400, "input"),
        ("/chat/completions", b'{"model": "x"}', 400, "messages"),
        ("/nothing", b"{}", 404, "path"),
    ],
)
def test_bad_input_names_what_is_wrong(url: str, path: str, body: bytes, status: int, says: str) -> None:
    answer = httpx.post(url + path, content=body)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_a_body_over_the_limit_is_refused_unread(url: str) -> None:
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
        assert raw.recv(64).startswith(b"HTTP/1.1 413")


def test_wrong_options_are_refused() -> None:
    command = [sys.executable, "-m", "yggdrasil.demo.backend", "--delay-ms", "-1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "--delay-ms must be 0 to 60000" in result.stderr


def test_the_question_is_the_last_line() -> None:
    messages = [Message("system", "Be brief."), Message("user", "A.\nB.\nWhy?")]
    assert question_and_text(messages) == ("Why?", "A.\nB.")
    earlier = [Message("user", "C."), Message("assistant", "D.")]
    assert question_and_text([*earlier, *messages]) == ("Why?", "C.\nA.\nB.")
    assert question_and_text([Message("assistant", "Hello.")]) == ("", "")


def test_pieces_join_to_the_text() -> None:
    assert "".join(pieces("a b  c")) == "a b  c"
