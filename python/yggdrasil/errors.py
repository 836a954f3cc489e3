"""The one error tree. Rust raises these too; the edges make problem+json, the OpenAI shape or socket errors.

Every class has a `code` (stable, one page each in `docs/errors/`), an HTTP `status` and a `title`. `detail`
is written for the person who made the mistake: it names the field and the rule, and never quotes another row.
"""

from __future__ import annotations

from typing import ClassVar


class YggdrasilError(Exception):
    """Base of everything this project raises on purpose."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, detail: str = "", *, field: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.field = field
        self.retry_after_seconds = retry_after_seconds


class InvalidInput(YggdrasilError, ValueError):
    """A value breaks a rule. `field` names it."""

    code, status, title = "invalid_input", 400, "A value breaks a rule"


class MoneyOverflow(InvalidInput):
    """An amount does not fit the integer range of the ledger."""

    code, title = "money_overflow", "The amount is out of range"


class Unauthenticated(YggdrasilError):
    """No credential, or one that is not valid (any more)."""

    code, status, title = "unauthenticated", 401, "A valid token or API key is needed"


class CodeRejected(Unauthenticated):
    """The e-mailed code is wrong, spent, expired or out of tries: one answer for all four."""

    code, title = "code_rejected", "The code is not valid"


class PaymentRequired(YggdrasilError):
    """The balance does not cover the request."""

    code, status, title = "insufficient_funds", 402, "The balance does not cover this request"


class SpendLimitReached(PaymentRequired):
    """The balance may cover the request; the limits of the API key it came with do not."""

    code, title = "spend_limit_reached", "The API key's spend limit does not cover this request"


class PaymentMethodRequired(YggdrasilError):
    """Spending or selling needs a verified payment method."""

    code, status, title = "payment_method_required", 402, "A verified payment method is needed"


class Forbidden(YggdrasilError):
    """Inside one's own network: the role does not allow this. Never used across the border of a network."""

    code, status, title = "forbidden", 403, "Your role does not allow this"


class NotFound(YggdrasilError):
    """Absent, foreign, deleted: one answer."""

    code, status, title = "not_found", 404, "No such thing"


class MethodNotAllowed(YggdrasilError):
    """The path exists, the method does not; the `Allow` header lists those that do."""

    code, status, title = "method_not_allowed", 405, "This path does not know that method"


class UnsupportedMedia(YggdrasilError):
    """A body in another format than JSON."""

    code, status, title = "unsupported_media", 415, "The body must be JSON"


class Conflict(YggdrasilError):
    """The state of the caller's own things does not allow this now."""

    code, status, title = "conflict", 409, "The present state does not allow this"


class TooLarge(YggdrasilError):
    """A body, frame or list is over its limit."""

    code, status, title = "too_large", 413, "Over the size limit"


class LimitReached(YggdrasilError):
    """A quota or rate is used up. `limit` is how much there is of it, `used` how much of that is used."""

    code, status, title = "limit_reached", 429, "A limit is reached"

    def __init__(
        self,
        detail: str = "",
        *,
        field: str | None = None,
        retry_after_seconds: int | None = None,
        limit: int | None = None,
        used: int | None = None,
    ) -> None:
        super().__init__(detail, field=field, retry_after_seconds=retry_after_seconds)
        self.limit, self.used = limit, used


class NoProvider(YggdrasilError):
    """No offer meets the request's wishes; `detail` says which wish is unmet."""

    code, status, title = "no_provider", 503, "No provider can take this request"


class ProviderFailed(YggdrasilError):
    """Every provider that was tried failed before the first chunk, or one failed after it."""

    code, status, title = "provider_failed", 502, "The provider failed"


class Timeout(YggdrasilError):
    """The deadline passed."""

    code, status, title = "timeout", 504, "The deadline passed"


class Unavailable(YggdrasilError):
    """A part this needs is not there now (database, mail); try again."""

    code, status, title = "unavailable", 503, "Not available at the moment"


class ConfigurationError(YggdrasilError):
    """A setting is missing or breaks a rule; the server does not start."""

    code, title = "configuration", "The configuration is not valid"


class ScopeError(YggdrasilError):
    """Our own bug: a query without a scope, or one that does not fit."""

    code, title = "internal", "Internal error"


class ProtocolViolation(YggdrasilError):
    """The peer broke the protocol. `close_code` 4000-4499: reconnect; 4500-4999: final."""

    code, status, title = "protocol", 400, "The peer broke the protocol"

    def __init__(self, detail: str = "", *, close_code: int = 4500) -> None:
        super().__init__(detail)
        self.close_code = close_code


class LedgerError(YggdrasilError):
    """Our own bug: a posting that would break the books. Nothing was posted."""

    code, title = "internal", "Internal error"
