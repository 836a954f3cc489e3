"""The HTTP and socket surface: which routes there are, and what stands in front of them."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin

from yggdrasil import __version__, apidoc, problems
from yggdrasil.adapters import devmail
from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.admin import audit_routes, operator_routes
from yggdrasil.admin import routes as admin_routes
from yggdrasil.admin.door import OperatorDoor
from yggdrasil.bifrost import endpoint as bifrost_endpoint
from yggdrasil.devices import routes as device_routes
from yggdrasil.edge import BODY_BYTES_MAX, CALLER, EdgeRequest, check_query
from yggdrasil.hot import Hot
from yggdrasil.kernel import Network
from yggdrasil.marketplace import analytics_routes
from yggdrasil.marketplace import routes as marketplace_routes
from yggdrasil.nornen import routes as nornen_routes
from yggdrasil.observe import Observe
from yggdrasil.openai import routes as openai_routes
from yggdrasil.payments import routes as payment_routes
from yggdrasil.quotas import routes as quota_routes
from yggdrasil.quotas.addresses import trusted_from
from yggdrasil.quotas.door import SourceDoor
from yggdrasil.quotas.service import body_bytes_of
from yggdrasil.reference import routes as reference_routes
from yggdrasil.sentinel import routes as sentinel_routes
from yggdrasil.services import Services
from yggdrasil.tracing import trace_requests
from yggdrasil.users import hand_over_routes, member_routes, roles
from yggdrasil.users import routes as user_routes
from yggdrasil.visibility import routes as visibility_routes


class Application(Litestar):
    """Without Litestar's own plugins for models of pydantic and attrs. No handler here knows one, and
    pydantic, which another library brings along, would take 10 MiB.
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


def create_app(services: Services) -> Litestar:
    """The HTTP and socket surface over `services`."""

    async def caller_of(scope: Any) -> Network:
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        found = await services.users.authenticate(
            None if authorization is None else authorization.decode("latin-1")
        )
        services.quotas.request(found, body_bytes_of(scope["headers"]))
        scope[CALLER] = found
        return found

    async def caller(request: Request[Any, Any, Any]) -> Network:
        return roles.guard(await caller_of(request.scope), request.route_handler.opt)

    def missing(scope: Any) -> None:
        services.audit.not_found(scope)

    def give(value: object) -> Provide:
        return Provide(lambda: value, sync_to_thread=False)

    handlers: list[Any] = [
        user_routes.router,
        hand_over_routes.router,
        member_routes.router,
        device_routes.router,
        payment_routes.router,
        marketplace_routes.router,
        nornen_routes.router,
        analytics_routes.router,
        openai_routes.router,
        admin_routes.router,
        operator_routes.router,
        operator_routes.tenant_router,
        quota_routes.router,
        quota_routes.operator_router,
        sentinel_routes.router,
        audit_routes.router,
        visibility_routes.router,
        reference_routes.router,
        bifrost_endpoint.bifrost,
    ]
    # Behind a proxy everybody seems to come from this machine, and may read everybody's codes.
    if isinstance(services.mailer, DevMailer) and not services.settings.behind_proxy:
        handlers.append(devmail.router)
    app = Application(
        route_handlers=handlers,
        dependencies={
            "caller": Provide(caller),
            "users": give(services.users),
            "devices": give(services.devices),
            "payments": give(services.payments),
            "marketplace": give(services.marketplace),
            "nornen": give(services.nornen),
            "hub": give(services.hub),
            "operators": give(services.operators),
            "quotas": give(services.quotas),
            "sentinel": give(services.sentinel),
            "visibility": give(services.visibility),
            "mailer": give(services.mailer),
            "readiness": give(services.readiness),
        },
        exception_handlers={Exception: problems.handle},
        before_request=check_query,
        request_class=EdgeRequest,
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=OpenAPIConfig(
            title="Yggdrasil",
            version=__version__,
            path="/schema",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
            use_handler_docstrings=True,
        ),
        logging_config=None,
    )
    apidoc.complete(app)
    # Around the router too, which answers unknown paths and methods itself.
    guarded = OperatorDoor(app.asgi_handler, services.operators, behind_proxy=services.settings.behind_proxy)
    hot = Hot(guarded, caller=caller_of, devices=services.devices, marketplace=services.marketplace)
    door = SourceDoor(
        hot,
        services.clock,
        per_minute=services.settings.sign_ins_per_address_per_minute,
        trusted=trusted_from(services.settings.trusted_proxies),
        header=services.settings.proxy_header,
        behind_proxy=services.settings.behind_proxy,
    )
    app.asgi_handler = trace_requests(Observe(door, services.ids, missing))
    return app
