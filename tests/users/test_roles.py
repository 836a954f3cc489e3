"""The table of roles, its page, and the guard."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

import pytest

from yggdrasil.errors import Forbidden, ScopeError
from yggdrasil.kernel import Network, Role
from yggdrasil.users.roles import INVITED, LEAST, Action, guard, manages, may, require

PAGE = Path(__file__).resolve().parents[2] / "docs" / "members.md"
ORDER = (Role.OWNER, Role.ADMIN, Role.MEMBER, Role.GUEST)


def scope(role: Role) -> Network:
    return Network(UUID(int=1), UUID(int=2), role)


def test_every_action_has_a_least_role_and_each_role_includes_those_after_it() -> None:
    assert set(LEAST) == set(Action)
    for action in Action:
        allowed = [may(role, action) for role in ORDER]
        assert allowed == sorted(allowed, reverse=True)
        assert allowed[0]


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", Role)
def test_a_refusal_names_the_role_needed(role: Role, action: Action) -> None:
    if may(role, action):
        require(scope(role), action)
        assert guard(scope(role), {"action": action}) == scope(role)
        return
    for ask in (lambda: require(scope(role), action), lambda: guard(scope(role), {"action": action})):
        with pytest.raises(Forbidden, match=f"needs the role {LEAST[action].value}; yours is {role.value}"):
            ask()


def test_a_route_that_does_not_say_what_it_does_answers_nobody() -> None:
    for opt in ({}, {"action": "compute"}, {"action": None}):
        with pytest.raises(ScopeError):
            guard(scope(Role.OWNER), opt)


def test_ownership_is_not_given_and_admins_are_the_owner_s() -> None:
    assert Role.OWNER not in INVITED
    assert [role for role in Role if may(role, manages(Role.ADMIN))] == [Role.OWNER]
    assert [role for role in Role if may(role, manages(Role.MEMBER))] == [Role.OWNER, Role.ADMIN]


def test_the_page_prints_the_table() -> None:
    rows = re.findall(r"^\| ([a-z].*?) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    printed = {what: [mark.strip() == "yes" for mark in marks.split("|")] for what, marks in rows}
    for action in Action:
        assert printed[action.value] == [may(role, action) for role in ORDER], action
    assert set(printed) == {action.value for action in Action} | {"what"}
