"""The REST edge of analytics."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter, SkipValidation

from yggdrasil.kernel import Network
from yggdrasil.marketplace.analytics import AnalyticsReport
from yggdrasil.marketplace.analytics_csv import table
from yggdrasil.marketplace.analytics_periods import Bucket
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.users.roles import Action

CSV_MEDIA_TYPE: Final = "text/csv; charset=utf-8; header=present"

MarketplaceDependency = NamedDependency[SkipValidation[Marketplace]]
CallerDependency = NamedDependency[SkipValidation[Network]]
Format = Literal["json", "csv"]
From = Annotated[
    str | None, QueryParameter(name="from", description="RFC 3339; 30 days before `to` if left out")
]
To = Annotated[str | None, QueryParameter(description="RFC 3339, not included; now if left out")]
Zone = Annotated[
    str, QueryParameter(description="A name of the IANA database; periods are cut by its clocks")
]
GroupBy = Annotated[str | None, QueryParameter(description="Dimensions with commas between, at most four")]


def _answer(report: AnalyticsReport, asked: Format) -> Response[Any]:
    if asked == "json":
        return Response(report)
    name = f"{report.side}-{report.start:%Y-%m-%d}-{report.bucket}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(table(report), media_type=CSV_MEDIA_TYPE, headers=headers)


@get("/provider", action=Action.OWN_TRADES)
async def provider_analytics(
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
    from_: From = None,
    to: To = None,
    bucket: FromQuery[Bucket] = "day",
    timezone: Zone = "UTC",
    group_by: GroupBy = None,
    format: FromQuery[Format] = "json",  # noqa: A002  # its name in the query
) -> Response[AnalyticsReport]:
    """What the caller's devices served and earned.

    `group_by`: kind, model, scope, state, error, device, weekday (1 = Monday), hour (of the day). Earnings by
    device, model and hour are `bucket=hour&group_by=device,model`; the pattern of a week is
    `bucket=all&group_by=weekday,hour`.
    """
    report = await marketplace.analytics.report(
        caller, "provider", from_=from_, to=to, bucket=bucket, timezone=timezone, group_by=group_by
    )
    return _answer(report, format)


@get("/requester", action=Action.OWN_TRADES)
async def requester_analytics(
    caller: CallerDependency,
    marketplace: MarketplaceDependency,
    from_: From = None,
    to: To = None,
    bucket: FromQuery[Bucket] = "day",
    timezone: Zone = "UTC",
    group_by: GroupBy = None,
    format: FromQuery[Format] = "json",  # noqa: A002  # its name in the query
) -> Response[AnalyticsReport]:
    """What the caller asked for and paid.

    `group_by`: kind, model, scope, state, error, device, key, offer (its pseudonym), weekday (1 = Monday),
    hour (of the day). The quality of the offers one was served by is `bucket=all&group_by=offer`.
    """
    report = await marketplace.analytics.report(
        caller, "requester", from_=from_, to=to, bucket=bucket, timezone=timezone, group_by=group_by
    )
    return _answer(report, format)


router = Router(
    path="/api/v1/marketplace/analytics",
    route_handlers=[provider_analytics, requester_analytics],
    tags=["analytics"],
)
