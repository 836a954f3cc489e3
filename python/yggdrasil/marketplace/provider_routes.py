"""The REST edge of one's own providers: what they get, and why not more."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation

from yggdrasil.devices.paging import LIMIT_DEFAULT, Page
from yggdrasil.kernel import Network
from yggdrasil.marketplace.breakdown import WorkView
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.users.roles import Action

MarketplaceDependency = NamedDependency[SkipValidation[Marketplace]]
CallerDependency = NamedDependency[SkipValidation[Network]]


@get("/sharing", action=Action.SELL)
async def list_sharing(
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
    limit: FromQuery[int] = LIMIT_DEFAULT,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """Which of the caller's devices are shared, and with whom: nobody, own, network or market. Change it with
    PUT on the provider; a device that is none yet is registered first."""
    return await marketplace.selling.shared(caller, limit=limit, cursor=cursor)


@get("/providers/{provider_id:str}/work", action=Action.SELL)
async def get_work(
    provider_id: FromPath[str],
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
    hours: FromQuery[int] = 24,
) -> WorkView:
    """Why a provider of one's own network gets no work: how each offer stands now, and for the finished hours
    its fair share, what it got, and what it missed by reason. Counts about others are rounded down."""
    return await marketplace.selling.work(caller, provider_id, hours)
