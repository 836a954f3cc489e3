"""Which adapter stands behind a port: what the settings ask for."""

from __future__ import annotations

from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.adapters.sandbox import SandboxGateway
from yggdrasil.adapters.smtp import SmtpMailer
from yggdrasil.config import Settings
from yggdrasil.db import Database
from yggdrasil.errors import ConfigurationError
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.ports import Mailer, PaymentGateway


def mailer_of(settings: Settings, clock: Clock, ids: IdSource) -> Mailer:
    """SMTP; in development mail is shown here, too."""
    smtp = (
        SmtpMailer(settings.smtp_url, settings.mail_from, clock, ids)
        if settings.smtp_url is not None
        else None
    )
    if settings.production and smtp is not None:
        return smtp
    return DevMailer(clock, development=not settings.production, onward=smtp)


def gateway_of(settings: Settings, database: Database, clock: Clock) -> PaymentGateway:
    """The sandbox. ConfigurationError for any other."""
    if settings.gateway != "sandbox":
        raise ConfigurationError("gateway: only the sandbox gateway exists in this version", field="gateway")
    return SandboxGateway(database, clock, environment=settings.environment)
