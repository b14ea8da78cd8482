"""The only worker of a model is killed: it is seen, its queue is answered by another model, and it comes back."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import orjson

from benchmarks.system import PATIENCE_S, System, request, wait_for

MODEL, POOL = "leaving", "left"


@contextlib.contextmanager
def worker(system: System) -> Iterator[None]:
    """A worker that is in no supervisor's hands, as on another machine; killed at the end."""
    served = {"PROVIDER": "sim", "BASE_URL": f"{system.provider}/v1"}
    variables = {f"POINTSMAN_MODELS__{MODEL}__{name}": value for name, value in served.items()}
    variables["POINTSMAN_SECURITY__SECRET_FILE"] = str(system.data_dir / "secret")
    process = system.spawn("worker", MODEL, "--broker", system.bootstrap, **variables)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def asked(names, **router):
    return [request(name, model=POOL, text=f"what of {name}?", **router) for name in names]


def answers(reads):
    """custom id -> result, of requests to the pool."""
    results = [orjson.loads(read.record.value) for read in reads]
    return {one["custom_id"]: one for one in results if one["router"]["pool"] == POOL}


def health(system):
    return [one for one in system.values("health") if one["model"] == MODEL]


def is_taken(system, reader, name):
    """Whether the model comes to answer all of twenty requests. A worker takes a while to start, and what waits meanwhile goes elsewhere."""
    rounds = iter(range(10_000))

    def round_():
        names = [f"{name}-{next(rounds)}-{n}" for n in range(20)]
        system.produce("requests", asked(names))
        assert reader.until(lambda reads: set(names) <= set(answers(reads)), PATIENCE_S)
        return {answers(reader.reads)[each]["router"]["model"] for each in names} == {MODEL}

    return wait_for(round_, 120, every_s=1.0)


def test_a_model_whose_worker_dies_is_left_by_its_queue_and_taken_again_when_one_is_back(system):
    with system.reading("results") as reader:
        with worker(system):
            assert is_taken(system, reader, "alive")
            before = len(health(system))

        queued = [f"queued-{n}" for n in range(40)]
        system.produce("requests", asked(queued, deadline_ms=60_000))
        assert reader.until(lambda reads: set(queued) <= set(answers(reads)), PATIENCE_S)
        found = [answers(reader.reads)[name] for name in queued]
        assert {one["error"] is None for one in found} == {True}, "answered by their deadline"
        routes = Counter(tuple((each["model"], each["reason"]) for each in one["router"]["attempts"]) for one in found)
        assert routes[(MODEL, "routed"), ("large", "fallback")] > 0
        assert set(routes) <= {((MODEL, "routed"), ("large", "fallback")), (("large", "routed"),)}
        silent = [one for one in health(system)[before:] if one["silent"]]
        assert silent
        assert silent[0]["state"] == "down"
        assert silent[0]["reason"].startswith("silent for ")
        assert "no worker takes its work" in silent[0]["reason"]

        new = [f"new-{n}" for n in range(10)]
        system.produce("requests", asked(new))
        assert reader.until(lambda reads: set(new) <= set(answers(reads)), PATIENCE_S)
        models = Counter(answers(reader.reads)[name]["router"]["attempts"][0]["model"] for name in new)
        assert models["large"] >= 7, "but for probes, nothing goes there any more"

        with worker(system):
            assert is_taken(system, reader, "back")
            assert wait_for(lambda: health(system)[-1]["state"] == "up", PATIENCE_S)
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
