"""Five times what a model can do, until priorities tell: each request has one result, what can be done is done, and then all is as before."""

from __future__ import annotations

from collections import Counter

import orjson

from benchmarks.system import PATIENCE_S, request, wait_for

#: Eight slots of 200 ms.
MODEL, CAPACITY_PER_S = "narrow", 40
RATE_PER_S, WAVE_S = 200, 5


def asked(names, **router):
    return [request(name, model=MODEL, text=f"what of {name}?", **router) for name in names]


def codes(results):
    return Counter("ok" if one["error"] is None else one["error"]["code"] for one in results)


def test_too_much_is_refused_in_order_of_priority_and_then_nothing_is(system):
    with system.reading("results") as reader:

        def found(prefix):
            results = [orjson.loads(read.record.value) for read in reader.reads]
            mine = [one for one in results if one["custom_id"].startswith(prefix)]
            assert len({one["custom_id"] for one in mine}) == len(mine), "a request has two results"
            return mine

        # the worker is there, and watch knows what a call takes
        system.produce("requests", asked([f"calm-{n}" for n in range(60)]), rate=15)
        assert wait_for(lambda: codes(found("calm-")) == {"ok": 60}, PATIENCE_S)

        batch = [f"patient-{n}" for n in range(30)]
        system.produce("requests.batch", asked(batch))
        waves = iter(range(1_000))

        def priorities_tell():
            """One more wave. What comes until the queue is known goes whatever its priority, and then nothing does until that is done."""
            wave = f"-{next(waves)}-"
            names = [f"{'vital' if n % 10 == 0 else 'usual'}{wave}{n}" for n in range(RATE_PER_S * WAVE_S)]
            burst = [line for name in names for line in asked([name], priority=int(name.startswith("vital")))]
            system.produce("requests", burst, rate=RATE_PER_S)
            usual, vital = (codes(found(kind + wave))["overloaded"] for kind in ("usual", "vital"))
            share = usual / (0.9 * len(names))
            return share > 0.5 and vital / (0.1 * len(names)) < share - 0.25

        assert wait_for(priorities_tell, PATIENCE_S)
        sent = next(waves) * RATE_PER_S * WAVE_S
        assert wait_for(lambda: len(found("vital-")) + len(found("usual-")) == sent, 90)
        assert set(codes(found("usual-")) | codes(found("vital-"))) == {"ok", "overloaded"}
        assert codes(found("usual-"))["ok"] >= CAPACITY_PER_S * WAVE_S, "what can be done is done"
        refused = next(one for one in found("usual-") if one["error"] is not None)
        assert refused["error"]["message"].startswith("all models that may answer have too much to do; try again in ")
        assert wait_for(lambda: codes(found("patient-")) == {"ok": len(batch)}, PATIENCE_S), (
            "batch is late, and not refused"
        )

        rounds = iter(range(1_000))

        def is_normal():
            prefix = f"after-{next(rounds)}-"
            system.produce("requests", asked([f"{prefix}{n}" for n in range(20)]), rate=20)
            assert wait_for(lambda: len(found(prefix)) == 20, PATIENCE_S)
            return codes(found(prefix)) == {"ok": 20} and all(
                one["router"]["latency_ms"] < 2_000 for one in found(prefix)
            )

        assert wait_for(is_normal, PATIENCE_S)
    report = system.audit()
    assert (report.problems, report.unchecked) == ((), ())
