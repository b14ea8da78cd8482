"""Facts and snapshots that tests of the deciding side share."""

from router.core.facts import RequestFacts
from router.core.price import UNPRICED, Price
from router.core.snapshot import HealthFacts, ModelFacts, PoolFacts, Snapshot, StandingOrder, StratumWeights

AT_MS = 1_770_000_000_000
CAPABILITIES = frozenset({"tools", "json_schema"})


def model(name, price=100, *, window=128_000, capabilities=CAPABILITIES, priced=True):
    known = Price(input_nano_usd_per_token=price, output_nano_usd_per_token=4 * price, version="v1")
    return ModelFacts(
        name=name,
        provider_model=f"{name}-2026",
        context_window=window,
        max_output_tokens=4096,
        capabilities=capabilities,
        price=known if priced else UNPRICED,
    )


def pool(name="auto", models=("small", "mid", "large"), **changed):
    given = {
        "baseline": models[-1],
        "policy": "thompson",
        "weights": {},
        "epsilon": 0.02,
        "rollout_percent": 100.0,
        "holdout_percent": 2.0,
        "sticky": True,
    }
    return PoolFacts(name=name, models=models, **given | changed)


MODELS = {"small": model("small"), "mid": model("mid", 400), "large": model("large", 2000)}
LEARNED = {
    ("auto", "math/hard"): StratumWeights(weights={"small": 0.7, "mid": 0.2, "large": 0.1}, policy_version="thompson:7")
}


def snapshot(
    *orders,
    models=MODELS,
    weights=LEARNED,
    health=None,
    tenants=None,
    pools=None,
    classifier="",
    focus=None,
    tenant_models=None,
    known=(),
    **pool_changes,
):
    return Snapshot.build(
        models=models,
        pools=pools or {"auto": pool(**pool_changes)},
        tenants=tenants,
        weights=weights,
        health=health,
        orders=orders,
        classifier=classifier,
        focus=focus,
        tenant_models=tenant_models,
        known=known,
    )


def order(scope, action, **args):
    return StandingOrder(scope=scope, action=action, **args)


def health(state, p95_ms=None, until_ms=None):
    return HealthFacts(state=state, p95_ms=p95_ms, until_ms=until_ms)


def facts(request_id="0" * 32, **changed):
    given = {
        "attempt": 1,
        "reason": "routed",
        "tenant": "acme",
        "session": None,
        "target": "auto",
        "stratum": "math/hard",
        "prompt_tokens": 500,
        "tokens_estimated": False,
        "completion_tokens": None,
        "answers": 1,
        "needs": (),
        "max_cost_nano_usd": None,
        "at_ms": AT_MS,
        "deadline_at_ms": AT_MS + 60_000,
    }
    return RequestFacts(request_id=request_id, **given | changed)
