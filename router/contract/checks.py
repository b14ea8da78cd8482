"""Rules of the contract that join several fields of one record. Each function gives what is wrong, or ``None``."""

from __future__ import annotations

from router.contract.faults import shown
from router.contract.ids import NAME
from router.contract.records import Control, Feedback, Outcome
from router.contract.times import from_rfc3339

#: Actions that concern one model itself; every other action concerns the requests of its scope.
OF_A_MODEL = frozenset({"ban", "drain"})
WITH_PERCENT = frozenset({"rollout", "holdout"})


def outcome_problem(outcome: Outcome) -> str | None:
    """``ok`` needs an answer: the result's body is made of it."""
    if outcome.status == "ok" and outcome.body is None:
        return "body: is missing; status ok needs the provider's answer"
    return None


def feedback_problem(feedback: Feedback) -> str | None:
    """Exactly one of ``feedback_token`` and ``request_id`` names the request."""
    if feedback.feedback_token is None and feedback.request_id is None:
        return "feedback_token: is missing; give feedback_token or request_id"
    if feedback.feedback_token is not None and feedback.request_id is not None:
        return "request_id: give feedback_token or request_id, not both"
    return time_problem("at", feedback.at)


def control_problem(order: Control) -> str | None:
    """The action fits the scope, its arguments are there unless it is a release, times are RFC 3339."""
    about_model = order.scope.startswith("model:")
    if order.action == "freeze" and order.scope.partition(":")[0] in {"tenant", "model"}:
        return f"scope: freeze needs all, a pool or a stratum, whose weights are learned, not {shown(order.scope)}"
    if order.action in OF_A_MODEL and not about_model:
        return f"scope: {order.action} needs a model, like model:small, not {shown(order.scope)}"
    if order.action not in OF_A_MODEL and about_model:
        return f"scope: {order.action} needs all, a pool, stratum or tenant, not {shown(order.scope)}"
    return (
        (_args_problem(order) if order.active else None)
        or time_problem("at", order.at)
        or time_problem("expires_at", order.expires_at)
    )


def time_problem(field: str, text: str | None) -> str | None:
    """What is wrong with a time that may be absent."""
    try:
        if text is not None:
            from_rfc3339(text)
    except ValueError as error:
        return f"{field}: {error}, not {shown(text)}"
    return None


def _args_problem(order: Control) -> str | None:
    if order.action == "pin":
        if "model" not in order.args:
            return "args.model: is missing; pin needs a model"
        model = order.args["model"]
        if not isinstance(model, str) or not NAME.fullmatch(model):
            return f"args.model: must be a model's name, not {shown(model)}"
    if order.action in WITH_PERCENT:
        if "percent" not in order.args:
            return f"args.percent: is missing; {order.action} needs a percentage"
        percent = order.args["percent"]
        if not isinstance(percent, int | float) or isinstance(percent, bool) or not 0 <= percent <= 100:
            return f"args.percent: must be a number from 0 to 100, not {shown(percent)}"
    return None
