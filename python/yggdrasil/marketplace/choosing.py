"""Which offer a run tries next, and what its attempt will hold. In memory; the books are `records`' part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from yggdrasil.errors import NoProvider
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.marketplace import billing
from yggdrasil.marketplace.allowed import check_model
from yggdrasil.marketplace.auto import ModelChoice
from yggdrasil.marketplace.billing import Budget
from yggdrasil.marketplace.picking import BusyError
from yggdrasil.marketplace.requests import ComputeRequest, Offer
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.run import Run
from yggdrasil.marketplace.settings import MarketSettings, Node
from yggdrasil.marketplace.store_queue import Owner
from yggdrasil.marketplace.store_run import NewAttempt, NewTransaction

CHOICES_MAX: Final = 32
QUOTES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Step:
    """An attempt about to be made. It has a slot of its offer, which `Chooser.drop` or the end of the
    attempt gives back."""

    offer: Offer
    budget: Budget
    attempt: NewAttempt
    hold_microcents: int


class Chooser:
    """Picks by the router, within what the request may cost."""

    def __init__(
        self, routing: Routing, clock: Clock, ids: IdSource, node: Node, settings: MarketSettings
    ) -> None:
        self._routing = routing
        self._clock = clock
        self._ids = ids
        self._node = node
        self._settings = settings

    def choose(self, run: Run, previous: Step | None) -> Step:
        """The next offer that the request's budget affords. Raises NoProvider."""
        request, wishes = run.request, run.request.wishes
        output = 0
        if request.kind == "chat":
            output = request.output_tokens_max or self._settings.output_tokens_default
            # What was delivered before a break counts for the length of the whole.
            output = max(output - sum(segment.tokens for segment in run.resumed()), 1)
            if request.output_tokens_max is not None:
                request = replace(request, output_tokens_max=output)
        cost_max = wishes.max_cost_microcents
        if cost_max is None:
            cost_max = self._settings.cost_microcents_default
        too_dear = False
        for _ in range(CHOICES_MAX):
            try:
                choice = self._routing.pick(
                    run.scope,
                    request,
                    prompt_tokens=run.asked_tokens(),
                    output_tokens=output * request.choices,
                    tried=run.tried,
                )
            except BusyError:
                raise
            except NoProvider:
                if too_dear:
                    break
                raise
            offer = choice.offer
            run.tried.add(offer.id)
            longest = min(output, offer.output_tokens_max or output)
            if wishes.scope == "market":
                budget = billing.paid_budget(
                    offer,
                    prompt_tokens=run.asked_tokens(),
                    output_tokens=longest,
                    fee_basis_points=self._settings.fee_basis_points,
                    tolerance_percent=self._routing.tolerance.percent(request.model),
                    cost_microcents_max=cost_max,
                    choices=request.choices,
                )
            else:
                budget = billing.free_budget(offer, prompt_tokens=run.asked_tokens(), output_tokens=longest)
            if budget is None:
                too_dear = True
                self._routing.release(offer.id)
                continue
            return self._step(run, offer, budget, _card(choice.card, run), previous)
        raise NoProvider(
            "max_cost: no offer answers this prompt for that little", field="max_cost_microcents"
        )

    def drop(self, run: Run, step: Step) -> None:
        """A step that was not begun after all: its slot is free again, and it was no attempt."""
        self._routing.release(step.offer.id)
        run.attempts -= 1

    def transaction(self, run: Run) -> NewTransaction:
        """The requester's row; Forbidden if the API key is not for its model, however that was chosen."""
        check_model(run.scope, run.request.model)
        return self.pending(run)

    def pending(self, run: Run) -> NewTransaction:
        """The requester's row while it waits, and nobody knows yet for which model of those it may ask."""
        return NewTransaction(
            network_id=run.scope.network_id,
            transaction_id=run.transaction_id,
            user_id=run.scope.user_id,
            device=run.scope.device_id,
            key_id=run.scope.key_id,
            scope=run.request.wishes.scope,
            kind=run.request.kind,
            model=run.request.model,
            idempotency_key=run.request.idempotency_key,
            created_at=run.created_at,
        )

    def owner(self, until: datetime) -> Owner:
        """This process answers for a request that waits until then."""
        deadline_at = until + timedelta(seconds=self._settings.settle_grace_seconds)
        return Owner(self._node.node_id, self._node.boot_id, deadline_at)

    def least_hold(self, run: Run, request: ComputeRequest, prompt_tokens: int) -> int:
        """What the cheapest answer to it would hold at least; 0 if that may be nothing."""
        offers = self._routing.reach.of_model(run.scope, request)
        if request.wishes.scope != "market":
            return 0
        if len(offers) > QUOTES_MAX:
            return min(1, *(offer.price_cents for offer in offers))
        output = 0
        if request.kind == "chat":
            output = request.output_tokens_max or self._settings.output_tokens_default
        cost_max = request.wishes.max_cost_microcents
        budgets = [
            billing.paid_budget(
                offer,
                prompt_tokens=prompt_tokens,
                output_tokens=min(output, offer.output_tokens_max or output),
                fee_basis_points=self._settings.fee_basis_points,
                tolerance_percent=self._routing.tolerance.percent(request.model),
                cost_microcents_max=(
                    self._settings.cost_microcents_default if cost_max is None else cost_max
                ),
                choices=request.choices,
            )
            for offer in offers
        ]
        return min((budget.hold_microcents for budget in budgets if budget is not None), default=0)

    def models(self, run: Run) -> ModelChoice:
        """The models that may answer a request which leaves the choice to us. Raises NoProvider."""
        request = run.request

        def needed(model: str) -> int:
            return replace(request, model=model).prompt_tokens() + (request.output_tokens_max or 1)

        return self._routing.reach.models(run.scope, request, needed)

    def _step(self, run: Run, offer: Offer, budget: Budget, card: str, previous: Step | None) -> Step:
        run.attempts += 1
        held = previous.hold_microcents if previous is not None else 0
        hold_id = previous.attempt.hold_id if previous is not None else None
        if budget.hold_microcents > held:
            hold_id, held = self._ids.uuid(), budget.hold_microcents
        himself = (offer.network_id, offer.user_id) == (run.scope.network_id, run.scope.user_id)
        attempt = NewAttempt(
            attempt_id=self._ids.uuid(),
            ordinal=run.attempts,
            hold_id=hold_id,
            provider_transaction=None if himself else self._ids.uuid(),
            offer=offer,
            fee_basis_points=self._settings.fee_basis_points if run.request.wishes.scope == "market" else 0,
            decision_card=card,
            node_id=self._node.node_id,
            boot_id=self._node.boot_id,
            started_at=self._clock.now(),
            deadline_at=run.deadline_at + timedelta(seconds=self._settings.settle_grace_seconds),
        )
        return Step(offer, budget, attempt, held)


def _card(card: dict[str, Any], run: Run) -> str:
    if run.model_choice is not None:
        card = {**card, "model_choice": run.model_choice}
    return msgspec.json.encode(card).decode()
