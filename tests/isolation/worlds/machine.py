"""Hypothesis state machines over pairs of worlds: what to do next is drawn, and a difference is shrunk to the
fewest steps that show it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.isolation.worlds.pair import DifferenceError, Pair
from tests.isolation.worlds.says import MESSAGES, RISKY
from tests.isolation.worlds.stage import Stage
from tests.isolation.worlds.ways import OFTEN, SELDOM, ways_of

SEEDS = st.integers(0, 2**32 - 1)
SALTS = st.integers(0, 2**32 - 1)
"""What is drawn inside of a step comes from a generator of the run's seed, this, and how often this was drawn
before: evenly, though Hypothesis likes small numbers and copies of what it had."""
TELLING = sorted(MESSAGES) + [kind for kind in sorted(MESSAGES) if kind not in RISKY] * 4
PAUSES = (1.0, 6.0, 12.0)
SLEEPS = (40.0, 70.0, 320.0, 950.0, 3_700.0, 90_000.0)
AGAIN_MAX = 6
DULL = ("/api/v1/admin", "/dev", "/docs", "/schema", "/health", "/metrics")
"""Asked, but seldom."""


@dataclass
class Tally:
    """What was done since the start. `answers`: (route, status) of the attacker's requests."""

    runs: int = 0
    steps: int = 0
    compared: int = 0
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    last: str = ""
    """The text of the last difference."""


class Worlds(RuleBasedStateMachine):
    """One pair of worlds. A subclass says which; `stage` is set before it runs."""

    kind: ClassVar[type[Pair]]
    stage: ClassVar[Stage]
    tally: ClassVar[Tally] = Tally()
    names: ClassVar[list[str]] = []
    pair: Pair | None = None
    seed: int
    drawn: Counter[int]

    @initialize(seed=SEEDS, early=st.integers(0, 2**16 - 1))
    def begin(self, seed: int, early: int) -> None:
        """`early`: who of the others is there before the attacker."""
        if not self.names:
            for way in ways_of(self.stage.crowded.app):
                dull = way.name in SELDOM or way.path.startswith(DULL)
                self.names.extend([way.name] * (1 if dull else 4 * OFTEN.get(way.name, 1)))
        self.tally.runs += 1
        self.seed, self.drawn = seed, Counter()
        self.pair = self.kind(self.stage.alone, self.stage.crowded, seed)
        self._doing(lambda pair: (pair.arrange(early), pair.settle_in()))

    @rule(salt=SALTS)
    def ask(self, salt: int) -> None:
        """The attacker asks on some route."""
        self._ask(salt, 0)

    @rule(salt=SALTS)
    def ask_on(self, salt: int) -> None:
        """As often again."""
        self._ask(salt, 0)

    @rule(salt=SALTS, times=st.integers(1, 4))
    def ask_more(self, salt: int, times: int) -> None:
        """Several requests."""
        for _ in range(times):
            self._ask(salt, 0)

    @rule(salt=SALTS, others=st.integers(1, 4))
    def ask_among_others(self, salt: int, others: int) -> None:
        """At the same moment others ask too."""
        self._ask(salt, others)

    @rule(times=st.integers(1, AGAIN_MAX))
    def ask_again(self, times: int) -> None:
        """The same once more, up to a limit that it may have."""
        self._doing(lambda pair: [pair.again() for _ in range(times)])

    @rule()
    def look(self) -> None:
        """The attacker reads everything that needs no id."""
        self._doing(lambda pair: pair.look(DULL))

    @rule(salt=SALTS, times=st.integers(1, AGAIN_MAX))
    def knock(self, salt: int, times: int) -> None:
        """The attacker asks for codes at an address."""
        rng = self._random(salt)
        self._doing(lambda pair: pair.knock(rng, times))

    @rule(kind=st.sampled_from(TELLING), salt=SALTS)
    def say(self, kind: str, salt: int) -> None:
        """A message on a socket of the attacker."""
        rng = self._random(salt)
        self._doing(lambda pair: pair.say(kind, rng))

    @rule(salt=SALTS)
    def socket(self, salt: int) -> None:
        """The attacker opens or leaves a socket."""
        rng = self._random(salt)
        self._doing(lambda pair: pair.open(rng))

    @rule(seconds=st.sampled_from(PAUSES))
    def wait(self, seconds: float) -> None:
        """Time passes; jobs have their rounds."""
        self._doing(lambda pair: pair.wait(seconds, at_once=False))

    @rule(seconds=st.sampled_from(SLEEPS))
    def sleep(self, seconds: float) -> None:
        """Much time passes at once."""
        self._doing(lambda pair: pair.wait(seconds, at_once=True))

    @rule(salt=SALTS)
    def stir(self, salt: int) -> None:
        """Others do something."""
        rng = self._random(salt)
        self._doing(lambda pair: pair.stir(rng))

    @rule(salt=SALTS, times=st.integers(1, 4))
    def stir_more(self, salt: int, times: int) -> None:
        """Others do several things."""
        rng = self._random(salt)
        self._doing(lambda pair: [pair.stir(rng) for _ in range(times)])

    def _random(self, salt: int) -> random.Random:
        self.drawn[salt] += 1
        return random.Random(f"{self.seed} {salt} {self.drawn[salt]}")

    def _ask(self, salt: int, others: int) -> None:
        rng = self._random(salt)
        name = rng.choice(self.names)
        self._doing(lambda pair: pair.ask(name, rng, others))

    def _doing(self, step: Any) -> None:
        assert self.pair is not None
        self.tally.steps += 1
        try:
            step(self.pair)
        except DifferenceError as error:
            self.tally.last = str(error)
            raise

    def teardown(self) -> None:
        if self.pair is not None:
            self.tally.compared += self.pair.compared
            self.tally.answers.update(self.pair.answers)
            self.pair.end()
            self.pair = None
