"""What each role of a network may do: the one table, and the one question. Pure.

Each role includes those after it, so an action names the least role that may. The router asks for every
route (`guard`), which names its action in its decorator; services ask again where they decide, of the same
table. docs/members.md prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from yggdrasil.errors import Forbidden, ScopeError
from yggdrasil.kernel import Network, Role

ACTION: Final = "action"
"""The `opt` of a route that says what its caller does."""


class Action(StrEnum):
    """What a member does, as a person would say it: the 403 begins with it."""

    OWN_ACCOUNT = "using one's own account"
    OWN_KEYS = "using one's own API keys"
    COMPUTE = "asking for compute"
    OWN_TRADES = "reading one's own requests and figures"
    SEE_OWN_DEVICES = "reading one's own devices"
    SEE_DEVICES = "seeing the network's devices"
    OWN_DEVICES = "having devices in the network"
    SELL = "offering compute"
    OTHERS_DEVICES = "changing another member's devices and offers"
    MONEY = "seeing and managing the network's money"
    MEMBERS = "managing the network's members"
    AUDIT = "reading the network's audit"
    ADMINS = "making and removing admins"
    CLOSE = "closing the network"


LEAST: Final[Mapping[Action, Role]] = {
    Action.OWN_ACCOUNT: Role.GUEST,
    Action.OWN_KEYS: Role.GUEST,
    Action.COMPUTE: Role.GUEST,
    Action.OWN_TRADES: Role.GUEST,
    Action.SEE_OWN_DEVICES: Role.GUEST,
    Action.SEE_DEVICES: Role.MEMBER,
    Action.OWN_DEVICES: Role.MEMBER,
    Action.SELL: Role.MEMBER,
    Action.OTHERS_DEVICES: Role.ADMIN,
    Action.MONEY: Role.ADMIN,
    Action.MEMBERS: Role.ADMIN,
    Action.AUDIT: Role.ADMIN,
    Action.ADMINS: Role.OWNER,
    Action.CLOSE: Role.OWNER,
}
INVITED: Final = (Role.ADMIN, Role.MEMBER, Role.GUEST)
"""Roles that can be given. Ownership cannot."""

_RANK: Final = {role: rank for rank, role in enumerate((Role.GUEST, Role.MEMBER, Role.ADMIN, Role.OWNER))}


def may(role: Role, action: Action) -> bool:
    """Whether the role includes the action."""
    return _RANK[role] >= _RANK[LEAST[action]]


def require(scope: Network, action: Action) -> None:
    """Forbidden, which names the role needed, unless the caller's role includes the action."""
    if not may(scope.role, action):
        raise Forbidden(f"{action.value} needs the role {LEAST[action].value}; yours is {scope.role.value}")


def manages(role: Role) -> Action:
    """What giving or taking this role asks for. Of the owner's, nobody's: see `Members`."""
    return Action.ADMINS if role is Role.ADMIN else Action.MEMBERS


def guard(scope: Network, opt: Mapping[str, Any]) -> Network:
    """The caller, if the role includes what the route does. Forbidden; ScopeError for a route that does not
    say what it does, so that a forgotten one answers nobody."""
    action = opt.get(ACTION)
    if not isinstance(action, Action):
        raise ScopeError("a route that asks who calls says what the caller does: action=Action...")
    require(scope, action)
    return scope
