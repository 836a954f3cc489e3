"""The two-world oracle: two servers that an attacker must not be able to tell apart.

    python -m tests.isolation.worlds [--strict] [--market] [--members] --runs N --seed S
        [--steps 50] [--seconds T] [--state FILE] [--no-shrink] [--answers]

runs N runs of 50 steps and prints one line of JSON:

    {"seeds": [...], "two_world_runs": N, "steps": ..., "compared": ..., "differences": 0}

It ends with 1 if there was a difference, after writing the script that leads to it, its seed and both
observations to the standard error stream; it stops at the first. `--seconds` stops earlier, `--state FILE`
goes on where a run with the same kinds, seed and steps stopped. `--no-shrink` is for planted leaks: found is
enough. Without a kind, all of them run in turn. In Python: `with stage() as on: run_chunk(on, "strict", seed,
runs=20)`.

How it works. Both worlds run the real composition (`yggdrasil.services`) over real PostgreSQL, in this
process, with a virtual clock; each person draws ids from a stream of their own (`streams`), so that the
attacker is given the same ids in both, and answers are compared byte by byte. The worlds go in lockstep
(`pair`): what the attacker does in the world with others, with guesses at their ids, is then done with the
very same bytes in the world without them.

    strict   the attacker alone | the attacker among victims who do everything but trade
    market   one tape of offers and arrivals, owned by other networks in each world
    members  another member of one's own network who does nothing | who does what is nobody else's business

`ways` discovers routes and socket messages from the app: one that nobody can make a request for fails a test.
"""
