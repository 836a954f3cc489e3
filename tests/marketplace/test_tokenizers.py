"""The operator's tokenizers: read from a directory, refused by file and rule, named in every answer."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from tests.engines.tokenizers_made import minilm
from tests.marketplace.test_rest import BODY, ROOT, bearer
from tests.marketplace.world import World, chat, chat_terms
from yggdrasil import heidrun
from yggdrasil.demo.minilm import lay_out_tokenizers
from yggdrasil.errors import ConfigurationError
from yggdrasil.marketplace.tokenizers import load_tokenizers

TEXT = "Yggdrasil überragt 中文 unaffably."


@pytest.fixture
def own() -> str:
    """A model that no other test registers."""
    return f"maker/model-{uuid.uuid4().hex}"


def put(directory: Path, name: str, content: str | None = None) -> Path:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(minilm().to_str() if content is None else content)
    return file


class TestDirectory:
    def test_a_file_counts_the_model_that_its_path_names(self, tmp_path: Path, own: str) -> None:
        plain = own.replace("/", "-")
        put(tmp_path, f"{own}.json")
        put(tmp_path, f"{plain}.json")
        put(tmp_path, ".hidden", "no tokenizer")
        put(tmp_path, ".git/config", "no tokenizer")
        assert load_tokenizers(tmp_path) == [own, plain]
        expected = len(minilm().encode(TEXT, add_special_tokens=False).ids)
        for model in (own, plain):
            assert heidrun.encoding_for(model) == (model, False)
            assert heidrun.count(model, TEXT) == expected
        assert heidrun.encoding_for(own.removeprefix("maker/")) == ("o200k_base", True)

    def test_of_the_demonstration(self, tmp_path: Path, own: str) -> None:
        place = tmp_path / "tokenizers"
        one, two = (f"{own.replace('/', '-')}-{name}" for name in ("chat", "vectors"))
        lay_out_tokenizers(place, [one, two])
        assert load_tokenizers(place) == [one, two]
        assert heidrun.count(one, TEXT) == heidrun.count(two, TEXT)
        assert heidrun.count(one, TEXT) == len(minilm().encode(TEXT, add_special_tokens=False).ids)

    def test_an_empty_one_is_none(self, tmp_path: Path) -> None:
        assert load_tokenizers(tmp_path) == []

    @pytest.mark.parametrize(
        ("name", "content", "rule"),
        [
            ("a/model.json", "{", "tokenizer_json is no tokenizer file"),
            ("a/model.json", '{"model": {"type": "Unigram"}}', 'model.type is "Unigram"'),
            ("model.txt", "", "must be named by its model, and end in .json"),
            ("a/.json/x.jsn", None, None),
            (f"{'x' * 240}/{'x' * 20}.json", None, "model must be 1 to 255 bytes"),
        ],
    )
    def test_a_bad_one_names_the_file_and_the_rule(
        self, tmp_path: Path, name: str, content: str | None, rule: str | None
    ) -> None:
        file = put(tmp_path, name, content)
        if rule is None:
            assert load_tokenizers(tmp_path) == []
            return
        with pytest.raises(ConfigurationError) as caught:
            load_tokenizers(tmp_path)
        assert caught.value.field == "tokenizers_dir"
        assert caught.value.detail.startswith(f"tokenizers_dir: {file}: {rule}")

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        for place in (tmp_path / "none", put(tmp_path, "file.json")):
            with pytest.raises(ConfigurationError, match="cannot be read") as caught:
                load_tokenizers(place)
            assert str(place) in caught.value.detail

    def test_a_link_to_nothing_and_a_huge_file(self, tmp_path: Path) -> None:
        link = tmp_path / "link.json"
        link.symlink_to(tmp_path / "nothing")
        with pytest.raises(ConfigurationError, match=r"link\.json: must be a file"):
            load_tokenizers(tmp_path)
        link.unlink()
        with (tmp_path / "huge.json").open("wb") as huge:
            huge.truncate(64 * 1024 * 1024 + 1)
        with pytest.raises(ConfigurationError, match=r"huge\.json: must be at most 64 MiB"):
            load_tokenizers(tmp_path)


def test_a_bad_file_stops_the_start(tmp_path: Path) -> None:
    file = put(tmp_path, "tokenizers/model.json", "{")
    ended = subprocess.run(
        [sys.executable, "-m", "yggdrasil", "serve"],
        env={
            "PATH": "/usr/bin:/bin",
            "YGGDRASIL_DATA_DIR": str(tmp_path / "data"),
            "YGGDRASIL_TOKENIZERS_DIR": str(tmp_path / "tokenizers"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert f"tokenizers_dir: {file}: tokenizer_json is no tokenizer file" in ended.stderr + ended.stdout


async def test_bills_and_is_named_in_the_answer(
    world: World, http: httpx.AsyncClient, tmp_path: Path, own: str
) -> None:
    put(tmp_path, f"{own}.json")
    load_tokenizers(tmp_path)
    await world.seller("own", terms=[chat_terms(model=own)])
    await world.seller("other")
    buyer = await world.buyer()
    request = chat(TEXT, model=own)
    finished = await (await world.market.run(buyer, request)).outcome()
    assert finished.told()["tokenizer"] == own
    counted = sum(len(minilm().encode(text, add_special_tokens=False).ids) for text in request.prompt)
    assert request.prompt_tokens() == counted + request.overhead_tokens
    assert request.prompt_tokens() != chat(TEXT).prompt_tokens()
    me = bearer(world, buyer)
    for model, tokenizer in ((own, own), (BODY["model"], "o200k_base")):
        answer = await http.post("/v1/chat/completions", json=BODY | {"model": model}, headers=me)
        assert answer.json()["yggdrasil"]["tokenizer"] == tokenizer, answer.text
        order = {"kind": "chat", "request": BODY | {"model": model}}
        answer = await http.post(f"{ROOT}/requests", json=order, headers=me)
        assert answer.json()["result"]["yggdrasil"]["tokenizer"] == tokenizer, answer.text
