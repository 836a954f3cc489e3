# ruff: noqa: E501  what is replaced has its own lines
"""Leaks of the edges: answers, headers, cursors, sockets, logs and measures."""

from __future__ import annotations

from tests.isolation.mutants import Mutant, Patch

ROUTES = "tests/isolation/test_routes.py"
SOCKETS = "tests/isolation/test_sockets.py"
LOGS = "tests/live/test_logs.py"
OBSERVE = "tests/isolation/test_answers.py"
OPERATORS = "tests/admin/test_operators.py"

MUTANTS = (
    Mutant(
        "forbidden-for-foreign",
        "a foreign device is forbidden, an absent one not found",
        ("tests/devices/test_service.py::test_another_network_gets_the_answer_for_absent", ROUTES),
        (
            Patch(
                "devices/service.py",
                "        if found is None:\n            raise NotFound\n        return found\n\n    async def update",
                "        if found is None:\n"
                '            async with self._database.transaction(System("devices")) as tx:\n'
                '                sql = "SELECT 1 FROM tenant.devices WHERE device_id = $1"\n'
                "                if await tx.fetchval(sql, device_id):\n"
                "                    raise Forbidden\n"
                "            raise NotFound\n        return found\n\n    async def update",
            ),
            Patch(
                "devices/service.py", "from yggdrasil.kernel import ", "from yggdrasil.kernel import System, "
            ),
        ),
    ),
    Mutant(
        "error-that-quotes",
        "a conflict quotes the row it met",
        ("tests/devices/test_service.py", "tests/isolation/test_answers.py"),
        (
            Patch(
                "devices/service.py",
                "                if await store.find(tx, scope.network_id, stored.device_id) is not None:\n"
                '                    raise Conflict("device_id: is already used in this network", '
                'field="device_id")\n',
                "",
            ),
            Patch(
                "devices/service.py",
                "        except asyncpg.UniqueViolationError:\n"
                '            raise Conflict("device_id: is already used in this network", '
                'field="device_id") from None',
                "        except asyncpg.UniqueViolationError as error:\n"
                '            raise Conflict(str(error.detail), field="device_id") from None',
            ),
        ),
    ),
    Mutant(
        "bug-that-quotes",
        "the answer to a bug holds the message of the exception",
        ("tests/test_edge.py", "tests/isolation/test_answers.py"),
        (
            Patch(
                "problems.py",
                "        known = errors.YggdrasilError()\n",
                "        known = errors.YggdrasilError(str(exception))\n",
            ),
            Patch(
                "problems.py",
                'error.detail if status < 500 or error.code != "internal" else error.title',
                "error.detail",
            ),
        ),
    ),
    Mutant(
        "flow-that-is-not-there",
        "a code for somebody's sign-in is refused otherwise than one for none",
        ("tests/users/test_borders.py::test_somebodys_flow_is_refused_like_one_that_never_was", ROUTES),
        (
            Patch(
                "users/signin.py",
                "        if taken is None:\n            return None\n        address_key, digest = taken",
                "        if taken is None:\n"
                "            if await tx.fetchval('SELECT true FROM identity.login_flows WHERE flow = $1', flow):\n"
                "                raise CodeRejected('another device asked for this code')\n"
                "            return None\n        address_key, digest = taken",
            ),
        ),
    ),
    Mutant(
        "shared-rate-header",
        "a header counts what everybody asked",
        (ROUTES,),
        (
            Patch(
                "observe.py",
                "    names = {name.lower() for name, _ in headers}\n",
                "    names = {name.lower() for name, _ in headers}\n"
                "    _asked.append(1)\n"
                '    added.append((b"x-ratelimit-used", str(len(_asked)).encode()))\n',
            ),
            Patch("observe.py", "@cache\ndef _measures", "_asked: list[int] = []\n\n\n@cache\ndef _measures"),
        ),
    ),
    Mutant(
        "request-ids-in-sequence",
        "the id of a request tells how many others were asked in between",
        (OBSERVE,),
        (
            Patch(
                "observe.py",
                "        request_id = self._ids.secret(8).hex()\n",
                "        self.__dict__['_number'] = self.__dict__.get('_number', 0) + 1\n"
                "        request_id = f\"{self.__dict__['_number']:016x}\"\n",
            ),
        ),
    ),
    Mutant(
        "answers-that-caches-keep",
        "a cache between us and two callers may give one the other's answer",
        (OBSERVE, "tests/live/test_hot.py"),
        (
            Patch(
                "observe.py", '(b"cache-control", b"no-store")', '(b"cache-control", b"public, max-age=60")'
            ),
        ),
    ),
    Mutant(
        "etag-of-the-path",
        "an ETag that is the same for all callers, and a 304 for whoever names it",
        (OBSERVE,),
        (
            Patch(
                "observe.py",
                '    if b"cache-control" not in names:\n',
                '    added.append((b"etag", b\'"1"\'))\n    if b"cache-control" not in names:\n',
            ),
        ),
    ),
    Mutant(
        "cursor-of-anothers-list",
        "a cursor is a number in a list that all callers share",
        ("tests/isolation/test_answers.py", "tests/devices/test_service.py"),
        (
            Patch(
                "devices/paging.py",
                '    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()',
                "    _given.append(position)\n    return str(len(_given) - 1)\n\n\n"
                "_given: list[tuple[str, ...]] = []",
            ),
            Patch(
                "devices/paging.py",
                "    if len(cursor) <= CURSOR_LENGTH_MAX:\n",
                "    if cursor.isdigit() and int(cursor) < len(_given):\n"
                "        return _given[int(cursor)]\n    if len(cursor) <= CURSOR_LENGTH_MAX:\n",
            ),
        ),
    ),
    Mutant(
        "metric-with-a-tenant-label",
        "the measures are labelled with the path, and so with ids",
        (LOGS,),
        (
            Patch(
                "observe.py",
                'route = scope.get("path_template") or "unmatched"',
                'route = scope.get("path") or "unmatched"',
            ),
        ),
    ),
    Mutant(
        "log-with-a-tenant-name",
        "the log line of a request holds its path",
        (LOGS,),
        (
            Patch(
                "observe.py",
                "            status=status,\n",
                "            status=status,\n            path=scope['path'],\n",
            ),
        ),
    ),
    Mutant(
        "log-that-quotes",
        "the log of an exception holds its message, which may quote a row",
        (LOGS + "::test_an_exception_is_logged_without_what_it_quotes",),
        (
            Patch(
                "observe.py",
                'told = f": {current}" if isinstance(current, _TELLING) else ""',
                'told = f": {current}"',
            ),
        ),
    ),
    Mutant(
        "trace-that-names-the-network",
        "a span carries the network of its transaction",
        ("tests/isolation/test_answers.py", "tests/test_tracing.py", "tests/live/test_traces.py"),
        (
            Patch(
                "tracing.py",
                '        async with opening as tx:\n            event("begun")\n',
                "        async with opening as tx:\n"
                "            if here is not None:\n"
                '                here.note("yggdrasil.scope", str(getattr(tx, "scope", "")))\n'
                '            event("begun")\n',
            ),
        ),
    ),
    Mutant(
        "role-guard-dropped",
        "a member changes another member's device",
        ("tests/devices/test_service.py::test_members_read_and_managers_change",),
        (
            Patch(
                "devices/service.py",
                "            require(scope, Action.OTHERS_DEVICES)\n",
                "            require(scope, Action.OWN_DEVICES)\n",
            ),
        ),
    ),
    Mutant(
        "operators-door-ajar",
        "the operators' paths answer strangers otherwise than paths that are not there",
        (OPERATORS,),
        (
            Patch(
                "admin/door.py",
                '    return parts[:3] == ["api", "v1", "admin"]',
                "    return False and bool(parts)",
            ),
        ),
    ),
    Mutant(
        "operator-is-anybody",
        "who has an access token is let in as an operator",
        (OPERATORS,),
        (
            Patch(
                "admin/door.py",
                "            if operator is None:\n",
                "            if operator is None and _authorization(scope) is None:\n",
            ),
            Patch(
                "admin/door.py",
                "    if not isinstance(operator, OperatorScope):\n        raise NotFound\n",
                "    if not isinstance(operator, OperatorScope):\n"
                "        return OperatorScope(UUID(int=0), 'nobody')\n",
            ),
            Patch(
                "admin/door.py",
                "from litestar.enums import ScopeType\n",
                "from uuid import UUID\n\nfrom litestar.enums import ScopeType\n",
            ),
        ),
    ),
    Mutant(
        "discovery-without-the-network",
        "a socket discovers the devices of all networks",
        (SOCKETS + "::test_discover_shows_the_own_network_alone", "tests/devices/test_service.py"),
        (
            Patch(
                "devices/service.py",
                "        scope = Network(member.network_id, member.user_id, Role.MEMBER, device_id=member.device)\n",
                '        scope = System("directory")\n',
            ),
            Patch(
                "devices/store.py",
                'FROM tenant.devices WHERE network_id = $1 AND device_id > $2"  # noqa: S608\n'
                '    " ORDER BY device_id LIMIT $3"',
                'FROM tenant.devices WHERE $1::uuid IS NOT NULL AND device_id > $2"  # noqa: S608\n'
                '    " ORDER BY device_id LIMIT $3"',
            ),
            Patch(
                "devices/service.py", "from yggdrasil.kernel import ", "from yggdrasil.kernel import System, "
            ),
        ),
    ),
    Mutant(
        "log-out-of-one-ends-all",
        "a log-out closes the sockets of all sessions of the person: one session learns of another's end",
        ("tests/live/test_revocation.py::test_a_second_sign_in_is_not_cut_by_the_logout_of_the_first",),
        (
            Patch(
                "services.py",
                "                session_id=revocation.session_id,\n                key_id=revocation.key_id,\n",
                "",
            ),
        ),
    ),
    Mutant(
        "development-mail-through-a-proxy",
        "everybody behind the proxy reads everybody's codes",
        ("tests/users/test_mail.py::test_development_mail_is_not_for_what_a_proxy_forwards",),
        (
            Patch(
                "edge.py",
                "if client is None or not _FORWARDED.isdisjoint(names):",
                "if client is None:",
            ),
        ),
    ),
    Mutant(
        "opened-without-a-word",
        "an operator opens a network and the network does not see it",
        (OPERATORS,),
        (),
        sql="ALTER POLICY network_select ON tenant.openings USING (network_id = (SELECT platform.current_network())"
        " AND user_id = (SELECT platform.current_user_id()))",
    ),
)
