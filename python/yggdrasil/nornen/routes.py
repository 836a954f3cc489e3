"""The REST edge of decisions on registrations."""

from __future__ import annotations

from uuid import UUID

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation

from yggdrasil.devices.paging import LIMIT_DEFAULT, Page
from yggdrasil.kernel import Network
from yggdrasil.nornen.service import Nornen
from yggdrasil.nornen.store import Registration
from yggdrasil.users.roles import Action

NornenDependency = NamedDependency[SkipValidation[Nornen]]
CallerDependency = NamedDependency[SkipValidation[Network]]


@get("/", action=Action.SELL)
async def list_registrations(
    caller: CallerDependency,
    nornen: NornenDependency,
    limit: FromQuery[int] = LIMIT_DEFAULT,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """The decisions on registrations of the caller's devices, newest first."""
    return await nornen.registrations(caller, limit=limit, cursor=cursor)


@get("/{registration_id:uuid}", action=Action.SELL)
async def get_registration(
    registration_id: FromPath[UUID], caller: CallerDependency, nornen: NornenDependency
) -> Registration:
    """One decision: what was asked for, the facts of the test, the verdict and its reasons."""
    return await nornen.registration(caller, registration_id)


@post("/{registration_id:uuid}/appeal", action=Action.SELL, status_code=200)
async def appeal(
    registration_id: FromPath[UUID], caller: CallerDependency, nornen: NornenDependency
) -> Registration:
    """Appeal against a refusal: the test runs again, and the new decision is the answer."""
    return await nornen.appeal(caller, registration_id)


router = Router(
    path="/api/v1/marketplace/registrations",
    route_handlers=[list_registrations, get_registration, appeal],
    tags=["marketplace"],
)
