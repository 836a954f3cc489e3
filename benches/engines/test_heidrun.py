"""Token counts against `tiktoken`, `tokenizers` and `gigatoken`, all on one thread, and settlement; on text
of this repository, German and Chinese prose written for it, and drawn emoji. `gigatoken` keeps what it has
seen from call to call: it is timed warm.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benches.engines.sides import OURS, EngineMeasure, Side
from benches.engines.tokenizer_peers import NAME as MODEL
from benches.engines.tokenizer_peers import TIKTOKEN, Count, counters
from yggdrasil import heidrun

ROOT = Path(__file__).parents[2]
PROSE = Path(__file__).parent / "texts"


def _files(*patterns: str) -> str:
    return "".join(path.read_text("utf-8") for pattern in patterns for path in sorted(ROOT.glob(pattern)))


def _drawn(alphabet: str, count: int, breaks: str) -> str:
    """Characters drawn by a falling frequency, with a break after every tenth on average."""
    chance = random.Random(5)  # noqa: S311 - a text, no secret
    weights = [1 / (rank + 1) for rank in range(len(alphabet))]
    drawn = chance.choices(alphabet, weights, k=count)
    return "".join(one + (chance.choice(breaks) if chance.random() < 0.1 else "") for one in drawn)


EMOJI = "😀😂🥰😎🤔👍🎉🔥🚀✨🙏💡🌍🎵🍕"
TEXTS = {
    "prose": _files("docs/**/*.md", "*.md"),
    "code": _files("python/**/*.py"),
    "german": (PROSE / "german.txt").read_text("utf-8"),
    "chinese": (PROSE / "chinese.txt").read_text("utf-8"),
    "emoji": _drawn(EMOJI, 100_000, " "),
}


def _counting(count: Count, text: str) -> Any:
    return lambda: count(text)


def _test_of(name: str, measure: str, *, rounds: int = 2, after: str = "", target: bool = True) -> Any:
    """Each round counts the text `name` once; before it, and not timed, the same side counts `after`."""
    text = TEXTS[name]
    counts = {OURS: partial(heidrun.count, MODEL), **counters()}
    differing = [side for side, count in counts.items() if count(text) != counts[OURS](text)]
    if differing:
        raise AssertionError(f"{name}: the counts differ from those of {differing}")
    ratio = {"target": "≥ 5× tiktoken", "least_ratio": 5.0} if target else {}
    made = EngineMeasure(f"heidrun.{measure}", "MB/s", "higher", work=len(text.encode()) / 1e6, **ratio)
    runs = {side: _counting(count, text) for side, count in counts.items()}

    @made.sides(runs.pop(OURS), runs)
    def test(side: Side, benchmark: Any) -> None:
        def before() -> None:
            counts[side.name](TEXTS[after])

        side(benchmark, rounds=rounds, before=before if after else None)

    return test


test_prose = _test_of("prose", "count_prose")
test_code = _test_of("code", "count_code")
test_emoji = _test_of("emoji", "count_emoji")
# Of a few kilobytes: counted again and again, the processor would know each of their words.
test_german = _test_of("german", "count_german", rounds=7, after="prose")
test_chinese = _test_of("chinese", "count_chinese", rounds=7, after="prose")
test_german_again = _test_of("german", "count_german_again", rounds=7, target=False)
test_chinese_again = _test_of("chinese", "count_chinese_again", rounds=7, target=False)

SWEPT = np.ones(8_000_000)
"""64 MB: more than the caches hold."""


def sweep() -> None:
    np.add(SWEPT, 1.0, out=SWEPT)


_COLD = EngineMeasure(
    "heidrun.count_german_cold",
    "MB/s",
    "higher",
    work=len(TEXTS["german"].encode()) / 1e6,
    notes={"text": "german, the caches swept before each count"},
)


@_COLD.sides(
    lambda: heidrun.count(MODEL, TEXTS["german"]),
    {peer: _counting(count, TEXTS["german"]) for peer, count in counters().items()},
)
def test_cold(side: Side, benchmark: Any) -> None:
    side(benchmark, rounds=7, before=sweep)


KILOBYTE = TEXTS["prose"][:1_024]


def _hundredfold(count: Count) -> Count:
    return lambda text: sum(count(text) for _ in range(100))


_PROMPT = EngineMeasure("heidrun.count_1kb", "µs", "lower", work=100, target="≤ 10 µs", bound=10)


@_PROMPT.sides(
    lambda: [heidrun.count(MODEL, KILOBYTE) for _ in range(100)],
    {peer: _counting(_hundredfold(count), KILOBYTE) for peer, count in counters().items()},
)
def test_1kb(side: Side, benchmark: Any) -> None:
    side(benchmark)


LETTERS = "a" * 1_000_000
_LETTER = EngineMeasure("heidrun.one_letter_1mb", "ms", "lower", target="linear: ≤ 100 ms", bound=100)


@_LETTER.sides(lambda: heidrun.count(MODEL, LETTERS), {TIKTOKEN: _counting(counters()[TIKTOKEN], LETTERS)})
def test_one_letter(side: Side, benchmark: Any) -> None:
    side(benchmark, rounds=1)


DELTAS = [TEXTS["prose"][start : start + 20] for start in range(0, 20_000, 20)]


def _singly() -> None:
    counter = heidrun.Counter(MODEL)
    for delta in DELTAS:
        counter.push(delta)


_DELTA = EngineMeasure("heidrun.stream_delta", "µs", "lower", work=len(DELTAS), target="≤ 3 µs", bound=3)
_DELTAS = EngineMeasure(
    "heidrun.stream_delta_many", "µs", "lower", work=len(DELTAS), target="≤ 1 µs", bound=1
)


@_DELTA.sides(_singly, {})
def test_delta(side: Side, benchmark: Any) -> None:
    side(benchmark)


@_DELTAS.sides(lambda: heidrun.Counter(MODEL).push_many(DELTAS), {})
def test_deltas(side: Side, benchmark: Any) -> None:
    side(benchmark)


ROWS = np.random.default_rng(3).integers(0, 2_000_000, 1_000_000)
_ROWS = EngineMeasure("heidrun.settle_many", "M rows/s", "higher", work=1, target="≥ 50", bound=50)


@_ROWS.sides(lambda: heidrun.settle_many(ROWS, 3, 1_000, 1_250), {})
def test_settle_many(side: Side, benchmark: Any) -> None:
    side(benchmark)
