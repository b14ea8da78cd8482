"""What a cascade would cost and risk, from labels and calls."""

import asyncio
import random
from types import SimpleNamespace

import orjson
import pytest

from router.cli.cascade import page
from router.config import loads
from router.contract.errors import ConfigError
from router.contract.topics import Names
from router.core.records import PricedAttempt
from router.core.risk import Label
from router.history import cascade, cascade_sample
from router.history.cascade import Calls, documents, labels_in, named, outlook
from router.stages.snapshot import cascade_facts

CONFIG = """
[models.small]
unpriced = true
[models.large]
unpriced = true
[pools.auto]
models = ["small", "large"]
[pools.auto.cascade]
target_risk = 0.1
"""
POOL = loads(CONFIG).pools["auto"]


def calls(model, *, cost, latency_ms, count=100):
    found = Calls()
    for number in range(count):
        found.add(
            PricedAttempt(
                request_id=f"{number:032x}", attempt=1, model=model, tenant="t", lane="batch", pool="auto", stratum="s",
                cohort="pilot", reason="routed", status="ok", error_code=None, at_ms=0, latency_ms=latency_ms,
                prompt_tokens=1, completion_tokens=1, cached_tokens=0, reasoning_tokens=0, cost_nano_usd=cost,
                baseline_cost_nano_usd=0, price_version=None, late=False,
            )
        )  # fmt: skip
    return found


def labels(count, seed=1):
    dice = random.Random(seed)
    for number in range(count):
        confidence = dice.random()
        yield Label(confidence, float(confidence > 0.5), 1.0, number, "v1")


def known(count=400):
    both = {"small": calls("small", cost=100, latency_ms=200), "large": calls("large", cost=1000, latency_ms=900)}
    return outlook("math/hard", list(labels(count)), POOL, both)


def test_the_cascade_costs_both_as_often_as_it_escalates():
    found = known()
    assert found.cost["cascade"] == pytest.approx(100 + found.escalates * 1000)
    assert (found.calibrated, found.calibration.threshold) == (True, found.threshold)
    assert 0.3 < found.threshold < 0.6


def test_its_latency_is_a_mixture():
    found = known()
    assert found.escalates < 0.5
    assert (found.p50_ms["cascade"], found.p95_ms["cascade"]) == (200.0, 1100.0)


def test_without_labels_nothing_is_promised():
    bare = outlook("s", [], POOL, {"small": calls("small", cost=100, latency_ms=200)})
    assert (bare.threshold, bare.escalates, bare.cost["cascade"], bare.p95_ms["cascade"]) == (0.5, None, None, None)
    (document,) = documents([bare])
    assert (document["calibrated"], document["risk"]) == (False, None)
    told = page([bare], "auto", POOL)
    assert "no labels; threshold 0.5 as configured, its risk is not known" in told
    assert "To calibrate" in told
    assert "nothing is known yet" in page([], "auto", POOL)


def test_a_plan_for_people():
    told = page([known()], "auto", POOL)
    assert "by 400 labels" in told
    assert "saved against large" in told
    assert "ms of the calls, p50 / p95: small 200 / 200, cascade 200 / 1,100, large 900 / 900" in told
    assert "To calibrate" not in told


def test_labels_of_a_file(tmp_path):
    file = tmp_path / "labels.jsonl"
    lines = [{"confidence": one.confidence, "quality": one.quality, "stratum": "a/b"} for one in labels(300)]
    file.write_bytes(b"\n".join(map(orjson.dumps, lines)) + b'\n\n{"confidence": 1, "quality": 1, "inclusion": 0.5}\n')
    found = labels_in(file)
    assert {name: len(each) for name, each in found.items()} == {"a/b": 300, "all": 1}
    assert found["all"][0].weight == 2.0
    assert [one.stratum for one in named(file, POOL)] == ["a/b", "all"]
    assert "cost a request" not in page(list(named(file, POOL)), "auto", POOL)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "line 2: is not JSON"),
        ("[]", "line 2: a JSON object is wanted"),
        ('{"quality": 1}', "line 2: confidence: a number from 0 to 1 is wanted, not 'None'"),
        ('{"confidence": true, "quality": 1}', "line 2: confidence"),
        ('{"confidence": 0.5, "quality": 1.5}', "line 2: quality"),
        ('{"confidence": 0.5, "quality": 1, "inclusion": 0}', "line 2: inclusion: must be above 0"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, problem):
    file = tmp_path / "labels.jsonl"
    file.write_text(f'{{"confidence": 0.5, "quality": 1}}\n{line}\n')
    with pytest.raises(ConfigError, match=problem):
        labels_in(file)


def usage(model, reason, cost, latency_ms, **changed):
    values = {
        "request_id": "a" * 32, "attempt": 1, "model": model, "tenant": "t", "lane": "batch", "pool": "auto", "stratum": "s",
        "cohort": "pilot", "reason": reason, "status": "ok", "error_code": None, "at_ms": 0, "latency_ms": latency_ms,
        "prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0, "reasoning_tokens": 0, "cost_nano_usd": cost,
        "baseline_cost_nano_usd": 0, "price_version": None, "late": False,
    }  # fmt: skip
    return values | changed


def test_a_judges_calls_and_failures_are_no_answers(monkeypatch):
    config = loads(CONFIG.replace("[pools.auto.cascade]", 'judge = "large"\n[pools.auto.cascade]\nsignal = "judge"'))
    facts = cascade_facts(config.pools["auto"], config.models)
    records = {
        "llm.usage": [
            usage("small", "routed", 10, 50),
            usage("large", "routed", 1000, 500),
            usage("large", "escalate", 0, None, status="error"),
            *[usage("large", "judge", 100, 60)] * 9,
        ],
        "llm.rewards": [
            {
                "request_id": f"{n:032x}", "pool": "auto", "stratum": "s", "first_model": "small", "model": "small",
                "answered_by_attempt": 1, "cohort": "pilot", "propensity": 1.0, "policy_version": "fixed:0", "kind": "label",
                "source": "reviewer", "reward": 1.0, "weight": 1.0, "at": "2026-01-01T00:00:00Z", "arm": None,
                "label": {"confidence": 0.9, "served_model": "v", "threshold": None, "inclusion": 1.0, "calibrated": False,
                          "scale": scale, "at_ms": n},
            }
            for n, scale in enumerate([facts.scale] * 100 + ["another"] * 50)
        ],
    }  # fmt: skip

    async def scan(_client, topics):
        for record in records[topics[0]]:
            yield SimpleNamespace(value=orjson.dumps(record))

    monkeypatch.setattr(cascade, "scan", scan)
    (found,) = asyncio.run(cascade.outlooks(None, Names(), "auto", config.pools["auto"], facts.scale))
    assert (found.cost["large"], found.p50_ms["large"], found.calibration.labels) == (1000.0, 500.0, 100)
    assert found.cost["cascade"] == pytest.approx(10 + 100 + found.escalates * 1000)
    assert found.p50_ms["cascade"] == 110.0


def test_nothing_to_label_is_nothing_to_read(monkeypatch):
    async def scan(_client, _topics):
        for record in ():
            yield record

    monkeypatch.setattr(cascade_sample, "scan", scan)
    assert asyncio.run(cascade_sample.to_label(None, Names(), "auto", 10)) == []
