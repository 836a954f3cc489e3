# ruff: noqa: E501  what is replaced has its own lines
"""Leaks of the code below the edges: scopes, caches, keys, names, jobs."""

from __future__ import annotations

from tests.isolation.mutants import Mutant, Patch

ROUTES = "tests/isolation/test_routes.py"
PURE = "tests/marketplace/test_pure.py"
KEYS = "tests/users/test_keys.py"
OPEN_DEVICES = "ALTER POLICY devices_network_select ON tenant.devices USING (true)"

MUTANTS = (
    Mutant(
        "set-instead-of-set-local",
        "the scope outlives its transaction on the connection",
        ("tests/db/test_transactions.py", "tests/db/test_scopes.py", "tests/db/test_pool_chaos.py"),
        (
            Patch("db/transaction.py", 'BEGIN; SET LOCAL app.\\"network\\"', 'BEGIN; SET app.\\"network\\"'),
            Patch("db/transaction.py", 'SET LOCAL app.\\"user\\"', 'SET app.\\"user\\"'),
        ),
    ),
    Mutant(
        "no-reset",
        "what a statement left on the session reaches the connection's next user",
        ("tests/db/test_transactions.py::test_a_session_setting_does_not_reach_the_next_user",),
        (Patch("db/transaction.py", 'f"RESET ALL; BEGIN; SET LOCAL', 'f"BEGIN; SET LOCAL'),),
    ),
    Mutant(
        "dirty-connection-comes-back",
        "a connection in the middle of a transaction goes to the next user",
        ("tests/db/test_transactions.py::test_a_dirty_connection_never_comes_back",),
        (Patch("db/pool.py", " and not connection.is_in_transaction():", ":"),),
    ),
    Mutant(
        "api-key-look-up-across-networks",
        "a key of one network opens another, whose name its text claims",
        (KEYS + "::test_forged_keys_have_one_answer", KEYS),
        (
            Patch(
                "users/apikeys.py",
                'b"yggdrasil api key\\0" + self.network_id.bytes + self.key_id.bytes + self.secret',
                'b"yggdrasil api key\\0" + self.key_id.bytes + self.secret',
            ),
            Patch(
                "users/keyring.py",
                "async with self._database.transaction(Identity(key.network_id)) as tx:",
                'async with self._database.transaction(System("key-use")) as tx:',
            ),
            Patch(
                "users/store_keys.py",
                '" FROM tenant.api_keys WHERE network_id = $1 AND key_id = $2 AND revoked_at IS NULL"\n'
                '        " AND (secret_digest = $3',
                '" FROM tenant.api_keys WHERE $1::uuid IS NOT NULL AND key_id = $2 AND revoked_at IS NULL"\n'
                '        " AND (secret_digest = $3',
            ),
            Patch(
                "users/keyring.py",
                "        if role is None:\n            raise Unauthenticated\n        scope = Network(",
                '        role = role or Role("member")\n        scope = Network(',
            ),
            Patch(
                "users/keyring.py",
                "from yggdrasil.kernel import Clock, Identity, IdSource, Network, System",
                "from yggdrasil.kernel import Clock, Identity, IdSource, Network, Role, System",
            ),
        ),
    ),
    Mutant(
        "key-cache-without-the-secret",
        "a key that was looked up lets in whoever knows its first half",
        ("tests/users/test_borders.py", KEYS),
        (
            Patch(
                "users/gate.py",
                "found = self._api_keys.get(hashlib.sha256(text.encode()).digest())",
                "found = self._api_keys.get(hashlib.sha256(text[:48].encode()).digest())",
            ),
            Patch(
                "users/gate.py",
                "_put(self._api_keys, hashlib.sha256(text.encode()).digest(), (scope, moment, until))",
                "_put(self._api_keys, hashlib.sha256(text[:48].encode()).digest(), (scope, moment, until))",
            ),
        ),
    ),
    Mutant(
        "key-look-ups-shared-without-the-secret",
        "who asks at the same moment with half a key gets the owner's answer",
        ("tests/users/test_borders.py", KEYS),
        (
            Patch(
                "users/keyring.py",
                "name = text, self._gate.keys_seen",
                "name = text[:48], self._gate.keys_seen",
            ),
        ),
    ),
    Mutant(
        "token-cache-without-the-signature",
        "a token that was verified lets in the same claims under any signature",
        ("tests/users/test_borders.py", "tests/users/test_tokens.py"),
        (
            Patch(
                "users/gate.py",
                "digest = hashlib.sha256(token.encode()).digest()",
                'digest = hashlib.sha256(token.rpartition(".")[0].encode()).digest()',
            ),
        ),
    ),
    Mutant(
        "early-return-for-an-absent-key",
        "an absent key is refused before the secret is looked at: the time tells",
        ("tests/users/test_borders.py", KEYS),
        (
            Patch("users/store_keys.py", '"SELECT user_id, models,"', '"SELECT *,"'),
            Patch(
                "users/store_keys.py", '\n        " AND (secret_digest = $3 OR previous_digest = $3)",', ","
            ),
            Patch(
                "users/store_keys.py", "class FoundKey:\n", "class FoundKey:\n    digests: tuple[Any, Any]\n"
            ),
            Patch(
                "users/store_keys.py",
                'return FoundKey(row["user_id"]',
                'return FoundKey((row["secret_digest"], row["previous_digest"]), row["user_id"]',
            ),
            Patch(
                "users/keyring.py",
                "if found is None or (found.until",
                "if found is None or key.digest() not in found.digests or (found.until",
            ),
        ),
    ),
    Mutant(
        "early-return-for-an-unknown-address",
        "an address without an account gets no mail",
        (
            "tests/users/test_sign_in.py::test_known_and_unknown_addresses_get_the_same_bytes",
            "tests/users/test_sign_in.py",
        ),
        (
            Patch(
                "users/signin.py",
                "        if mailed:\n"
                "            self._postman.post(code_mail(address, code, settings.code_seconds))\n",
                "        async with self._database.transaction(Identity()) as tx:\n"
                "            known = await store.is_known_device(tx, address_key, device_key)\n"
                "        if known:\n"
                "            self._postman.post(code_mail(address, code, settings.code_seconds))\n",
            ),
        ),
    ),
    Mutant(
        "shared-login-limiter",
        "the wrong codes of one address count against all",
        ("tests/users/test_borders.py", "tests/users/test_sign_in.py"),
        (
            Patch(
                "users/signin.py",
                "    if not (known and own):\n        return address_key\n",
                "    if not (known and own):\n        return bytes(32)\n",
            ),
        ),
    ),
    Mutant(
        "mail-quotes-a-foreign-address",
        "a mail tells to whom the last one went",
        ("tests/users/test_borders.py", "tests/users/test_mail.py"),
        (
            Patch(
                "users/mailing.py",
                '    return Mail(address, "Your Yggdrasil sign-in code", _TEXT.format(code=code, '
                "minutes=seconds // 60))",
                "    text = _TEXT.format(code=code, minutes=seconds // 60)\n"
                "    last, _LAST[0] = _LAST[0], address\n"
                '    return Mail(address, "Your Yggdrasil sign-in code", text + last)\n\n\n'
                '_LAST = [""]',
            ),
        ),
    ),
    Mutant(
        "affinity-without-the-network",
        "who names a conversation as another network does is sent to its provider",
        ("tests/marketplace/test_affinity.py",),
        (
            Patch(
                "marketplace/pseudonym.py",
                "digest = blake2b(network.bytes + user.bytes, digest_size=16",
                "digest = blake2b(b'', digest_size=16",
            ),
        ),
    ),
    Mutant(
        "one-pseudonym-for-all-viewers",
        "two networks compare notes: an offer has one name for all",
        (PURE, ROUTES),
        (
            Patch(
                "marketplace/pseudonym.py",
                "key = _derived(self._key, _LABEL + viewer.bytes)",
                "key = _derived(self._key, _LABEL)",
            ),
        ),
    ),
    Mutant(
        "result-sealed-to-nobody",
        "a stored result opens in another's row",
        (PURE, "tests/marketplace/test_borders.py"),
        (
            Patch(
                "marketplace/sealing.py",
                "        context = network_id.bytes + user_id.bytes + transaction_id.bytes\n"
                "        return self._cipher_of",
                "        context = b''\n        return self._cipher_of",
            ),
            Patch(
                "marketplace/sealing.py",
                "        context = network_id.bytes + user_id.bytes + transaction_id.bytes\n        try:",
                "        context = b''\n        try:",
            ),
            Patch("marketplace/sealing.py", "info=_LABEL + network_id.bytes", "info=_LABEL"),
        ),
    ),
    Mutant(
        "result-cache-by-id-alone",
        "a result that its owner has read is answered to whoever knows its id",
        (ROUTES + "::test_what_was_read_is_not_answered_to_others",),
        (
            Patch(
                "marketplace/service.py",
                '        """The stored result (JSON) of a paid request of the caller, for 15 minutes; NotFound '
                'otherwise."""\n',
                '        """The stored result."""\n'
                "        kept = self.__dict__.setdefault('_kept', {})\n"
                "        if transaction_id in kept:\n"
                "            return kept[transaction_id]\n",
            ),
            Patch(
                "marketplace/service.py",
                "        if plain is None:\n            raise NotFound\n        return plain",
                "        if plain is None:\n            raise NotFound\n"
                "        kept[transaction_id] = plain\n        return plain",
            ),
        ),
    ),
    Mutant(
        "device-cache-by-its-name",
        "a device that its network has read is answered to another",
        (ROUTES + "::test_what_was_read_is_not_answered_to_others",),
        (
            Patch(
                "devices/service.py",
                "        return self._shown(await self.stored(scope, device_id))\n\n    async def stored",
                "        kept = self.__dict__.setdefault('_kept', {})\n"
                "        if device_id not in kept:\n"
                "            kept[device_id] = self._shown(await self.stored(scope, device_id))\n"
                "        return kept[device_id]\n\n    async def stored",
            ),
        ),
    ),
    Mutant(
        "shared-limit-of-requests",
        "what others run at once counts against my limit",
        ("tests/marketplace/test_borders.py", "tests/marketplace/test_offers.py"),
        (
            Patch(
                "marketplace/serving.py",
                '("user", self._of_user[user], self._settings.runs_per_user_max),',
                '("user", self._of_user.total(), self._settings.runs_per_user_max),',
            ),
        ),
    ),
    Mutant(
        "shared-quota",
        "all networks use up one quota",
        ("tests/quotas/test_quotas.py::test_one_network_does_not_feel_another",),
        (
            Patch(
                "quotas/service.py",
                "        now = self._clock.monotonic()\n"
                "        usage = self._known.get(scope.network_id) or self._new(scope.network_id, now)\n"
                "        if scope.network_id in SENTINEL_NETWORKS:\n",
                "        now = self._clock.monotonic()\n"
                "        usage = next(iter(self._known.values()), None) or self._new(scope.network_id, now)\n"
                "        if scope.network_id in SENTINEL_NETWORKS:\n",
            ),
        ),
    ),
    Mutant(
        "shared-limit-of-waiting",
        "what others wait for counts against my network's places",
        ("tests/marketplace/test_waiting.py",),
        (
            Patch(
                "marketplace/waiting.py",
                "if self._of_network[network_id] >= self._per_network_max:",
                "if self._of_network.total() >= self._per_network_max:",
            ),
        ),
    ),
    Mutant(
        "system-scope-in-a-route",
        "analytics are summed under System, and the query forgets the network",
        ("tests/marketplace/test_analytics.py", "tests/isolation/test_analytics.py"),
        (
            Patch(
                "marketplace/analytics.py",
                "        async with self._database.transaction(scope) as tx:",
                '        async with self._database.transaction(System("analytics")) as tx:',
            ),
            Patch(
                "marketplace/analytics.py",
                "from yggdrasil.kernel import ",
                "from yggdrasil.kernel import System, ",
            ),
            Patch(
                "marketplace/store_analytics.py",
                "WHERE t.network_id = $1 AND t.user_id = $2 AND t.side = $3 AND t.ended_at >= $4",
                "WHERE $1::uuid IS NOT NULL AND $2::uuid IS NOT NULL AND t.side = $3 AND t.ended_at >= $4",
            ),
        ),
    ),
    Mutant(
        "total-counts-all",
        "the sum of settlements is the whole house's",
        ("tests/marketplace/test_analytics.py", "tests/isolation/test_analytics.py"),
        (
            Patch(
                "marketplace/store_analytics.py",
                '" FROM tenant.entries WHERE network_id = $1 AND account = $2"',
                '" FROM tenant.entries WHERE $1::uuid IS NOT NULL AND account = $2"',
            ),
        ),
        sql="ALTER POLICY network_select ON tenant.entries USING (true)",
    ),
    Mutant(
        "job-under-the-wrong-scope",
        "the job that notes when keys were used works under another name, and finds no row to change",
        (KEYS + "::test_last_uses_of_many_networks_are_written_together_and_seldom",),
        (
            Patch(
                "users/keyring.py",
                'async with self._database.transaction(System("key-use")) as tx:',
                'async with self._database.transaction(System("keys-used")) as tx:',
            ),
        ),
    ),
    Mutant(
        "counts-written-under-the-wrong-scope",
        "the hourly counts of work are never written: the job that writes them may not",
        ("tests/marketplace/test_work.py",),
        (Patch("marketplace/breakdown.py", 'System("work-counts")', 'System("work-count")'),),
    ),
    Mutant(
        "nobodys-scope-is-unaudited",
        "a job reads everything and no row says so",
        ("tests/db/test_scopes.py",),
        (
            Patch(
                "db/transaction.py",
                "            begin = self._audit_sql(scope) + begin\n",
                "            pass\n",
            ),
        ),
    ),
)
