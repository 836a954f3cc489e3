"""The definitions of the marketplace's tables; the drift test holds them against the live catalog.

The real keys of the tenant tables start with the network; Piccolo knows single columns only.
"""

from piccolo.columns import JSONB, UUID, Array, BigInt, Bytea, Integer, Text, Timestamptz
from piccolo.table import Table

from yggdrasil.db.engine import ENGINE


class ProviderRow(Table, tablename="providers", schema="tenant", db=ENGINE):
    """A device that sells, or serves its own people."""

    network_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    device = UUID(default=None)
    audience = Text(default=None)
    status = Text(default=None)
    capacity_jobs = Integer(default=None)
    world = Text(default=None)
    memory_gib = Integer(default=None)
    created_at = Timestamptz(default=None)
    updated_at = Timestamptz(default=None)
    hours = JSONB(default=None, null=True)
    zone = Text(default=None)


class OfferRow(Table, tablename="offers", schema="tenant", db=ENGINE):
    """One model on one device at a price."""

    network_id = UUID(default=None)
    id = UUID(primary_key=True, default=None)
    provider = UUID(default=None)
    user_id = UUID(default=None)
    device = UUID(default=None)
    audience = Text(default=None)
    status = Text(default=None)
    model = Text(default=None)
    kind = Text(default=None)
    price_cents = BigInt(default=None)
    price_unit_tokens = Integer(default=None)
    rounding = Text(default=None)
    context_tokens_max = Integer(default=None)
    capacity_jobs = Integer(default=None)
    world = Text(default=None)
    memory_gib = Integer(default=None)
    measured_latency_ms = Integer(default=None)
    measured_tokens_per_second = Integer(default=None)
    model_capacity_jobs = Integer(default=None, null=True)
    output_tokens_max = Integer(default=None, null=True)
    hours = JSONB(default=None, null=True)
    zone = Text(default=None)
    device_group = Bytea(default=None)
    parameters = Array(base_column=Text(), default=None, null=True)
    created_at = Timestamptz(default=None)


class ProviderWorkRow(Table, tablename="provider_work", schema="tenant", db=ENGINE):
    """How often a provider was asked, got work, or missed it for a reason, in one hour."""

    network_id = UUID(default=None)
    provider = UUID(primary_key=True, default=None)
    hour = Timestamptz(default=None)
    reason = Text(default=None)
    requests = BigInt(default=None)


class TransactionRow(Table, tablename="transactions", schema="tenant", db=ENGINE):
    """One side of a trade; the two sides have different ids."""

    network_id = UUID(default=None)
    side = Text(default=None)
    transaction_id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    device = UUID(default=None, null=True)
    key_id = UUID(default=None, null=True)
    state = Text(default=None)
    scope = Text(default=None)
    kind = Text(default=None)
    model = Text(default=None)
    price_cents = BigInt(default=None)
    price_unit_tokens = Integer(default=None)
    rounding = Text(default=None)
    fee_basis_points = Integer(default=None)
    prompt_tokens = BigInt(default=None)
    completion_tokens = BigInt(default=None)
    total_microcents = BigInt(default=None)
    fee_microcents = BigInt(default=None)
    earnings_microcents = BigInt(default=None)
    latency_ms = Integer(default=None, null=True)
    attempts = Integer(default=None)
    decision_card = JSONB(default=None, null=True)
    error_code = Text(default=None, null=True)
    idempotency_key = Text(default=None, null=True)
    created_at = Timestamptz(default=None)
    ended_at = Timestamptz(default=None, null=True)
    quality_ppm = Integer(default=None, null=True)


class ResultRow(Table, tablename="results", schema="tenant", db=ENGINE):
    """A sealed result, for at most 15 minutes."""

    network_id = UUID(default=None)
    transaction_id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    nonce = Bytea(default=None)
    sealed = Bytea(default=None)
    created_at = Timestamptz(default=None)
    expires_at = Timestamptz(default=None)


class FeedbackRow(Table, tablename="feedback", schema="tenant", db=ENGINE):
    """What a requester said of an answer."""

    network_id = UUID(default=None)
    transaction_id = UUID(primary_key=True, default=None)
    user_id = UUID(default=None)
    score_ppm = Integer(default=None)
    weight_ppm = Integer(default=None)
    reason = Text(default=None, null=True)
    created_at = Timestamptz(default=None)


class ModelRow(Table, tablename="models", schema="platform", db=ENGINE):
    """The reference points of a model."""

    model = Text(primary_key=True, default=None)
    kind = Text(default=None)
    price_reference_microcents = BigInt(default=None)
    latency_reference_ms = Integer(default=None)
    created_at = Timestamptz(default=None)


class AttemptRow(Table, tablename="attempts", schema="platform", db=ENGINE):
    """One dispatch of a request to a provider: the only place that knows both sides."""

    attempt_id = UUID(primary_key=True, default=None)
    ordinal = Integer(default=None)
    requester_network = UUID(default=None)
    requester_transaction = UUID(default=None)
    hold_id = UUID(default=None, null=True)
    provider_network = UUID(default=None)
    provider_transaction = UUID(default=None, null=True)
    provider = UUID(default=None)
    offer = UUID(default=None)
    device = UUID(default=None)
    state = Text(default=None)
    observed_tokens = BigInt(default=None, null=True)
    claimed_tokens = BigInt(default=None, null=True)
    latency_ms = Integer(default=None, null=True)
    tokens_per_second = Integer(default=None, null=True)
    error_code = Text(default=None, null=True)
    node_id = UUID(default=None)
    boot_id = UUID(default=None)
    started_at = Timestamptz(default=None)
    deadline_at = Timestamptz(default=None)
    ended_at = Timestamptz(default=None, null=True)
    quality_ppm = Integer(default=None, null=True)
    verdict = Text(default=None, null=True)


class CanaryRow(Table, tablename="canaries", schema="platform", db=ENGINE):
    """How a canary job ended."""

    canary_id = UUID(primary_key=True, default=None)
    network_id = UUID(default=None)
    offer = UUID(default=None)
    state = Text(default=None)
    observed_tokens = BigInt(default=None)
    claimed_tokens = BigInt(default=None, null=True)
    quality_ppm = Integer(default=None)
    latency_ms = Integer(default=None, null=True)
    tokens_per_second = Integer(default=None, null=True)
    error_code = Text(default=None, null=True)
    ended_at = Timestamptz(default=None)


class QueuedRow(Table, tablename="queued", schema="platform", db=ENGINE):
    """A request that waits for a free offer, and the process that answers for it."""

    network_id = UUID(default=None)
    transaction_id = UUID(primary_key=True, default=None)
    node_id = UUID(default=None)
    boot_id = UUID(default=None)
    deadline_at = Timestamptz(default=None)


class WaitRow(Table, tablename="waits", schema="platform", db=ENGINE):
    """One stay of a request in the queue."""

    network_id = UUID(default=None)
    transaction_id = UUID(default=None)
    ordinal = Integer(primary_key=True, default=None)
    reason = Text(default=None)
    gates = Array(base_column=Text(), default=None)
    attempts = Integer(default=None)
    ahead = Integer(default=None)
    waiting = Integer(default=None)
    queued_at = Timestamptz(default=None)
    until_at = Timestamptz(default=None)


class ConversationRow(Table, tablename="conversations", schema="platform", db=ENGINE):
    """By which offer a conversation was served last, as a node stopped."""

    node_id = UUID(default=None)
    conversation = Bytea(primary_key=True, default=None)
    offer = UUID(default=None)
    served_at = Timestamptz(default=None)
