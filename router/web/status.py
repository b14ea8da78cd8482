"""The status document: everything a person on call asks first, as one JSON object. Pure.

Rules
- A figure is ``{"value", "age_s"}`` or lies in a section with an ``age_s`` of its own: seconds since the source was
  last read to its end. ``for_s`` beside a state is how long it has lasted, at least.
- Sums of metric windows are ``{"value", "final"}``: with and without windows that are still open. Their section's
  ``window`` says which windows: rows of ``llm.metrics`` with ``from <= window_start < to``. ``final`` can be audited.
- ``null`` means not known, never zero. What the product cannot do yet is listed in ``not_there_yet``.
- Ages are true at ``at_ms``; ``ages.later`` moves them on for a reader who comes later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from router.contract.records import Control
from router.contract.times import from_rfc3339, to_rfc3339
from router.web import verdict
from router.web.lanes import Row, rows
from router.web.quality import slices
from router.web.sums import BESIDE, Slice, Sums, total
from router.web.tenants import tenants_of
from router.web.view import At, View

Json = dict[str, Any]

NOT_THERE_YET = {
    "reviews": "length of the review queue: `pointsman review`, or /review, works through it",
}
SUMMED = (
    "requests", "ok", "attempts", "retries", "fallbacks", "hedges", "escalations", "shadows", "shadows_ok", "surveys",
)  # fmt: skip
TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


def build_status(view: View, now_ms: int, *, version: str = "", processes: Iterable[Json] = ()) -> Json:
    """The document at ``now_ms`` (milliseconds since 1970); keys as in the module's rules."""
    topics_s = _age_s(view.confirmed_ms.get("topics"), now_ms)
    groups_s = _age_s(view.confirmed_ms.get("groups"), now_ms)
    lanes = rows(view.setup.prefix, view.tracks.items(), now_ms)
    found = verdict.findings(view, lanes, now_ms)
    final, still_open = view.windows.final_slices(), view.windows.open_slices()
    window = _window(view)
    return {
        "at": to_rfc3339(now_ms),
        "at_ms": now_ms,
        "version": version,
        "prefix": view.setup.prefix,
        "verdict": {
            "state": verdict.state_of(found, view),
            "reasons": [asdict(finding) for finding in found],
            "age_s": max(topics_s or 0.0, groups_s or 0.0) if view.confirmed_ms else None,
        },
        "next_action": verdict.next_action(found),
        "broker": {
            "address": view.setup.broker,
            "age_s": _age_s(max(view.confirmed_ms.values(), default=None), now_ms),
        },
        "changes": [asdict(change) | {"ago_s": _age_s(change.at_ms, now_ms)} for change in reversed(view.changes)],
        "orders": [_order(order, now_ms) for order in view.standing(now_ms)],
        "traffic": _traffic(final, still_open) | {"window": window, "age_s": topics_s},
        "requests": _requests(view, lanes, now_ms, topics_s),
        "dead_letters": _dead_letters(view, now_ms, topics_s),
        "cost": _cost(total(final), total(still_open), window, now_ms) | {"age_s": topics_s},
        "models": _models(view, final, still_open, now_ms, topics_s),
        "quality": {
            "slices": slices(view, final, still_open),
            "sight": _sight(view, now_ms),
            "window": window,
            "age_s": topics_s,
        },
        "tenants": tenants_of(view, now_ms),
        "weights": [_weights(view, at, now_ms) for at in sorted(view.weights)],
        "stages": [_stage(row, groups_s, now_ms) for row in lanes],
        "alerts": [asdict(at.record) | {"age_s": _age_s(at.at_ms, now_ms)} for at in view.alerts.values()],
        "processes": list(processes),
        "not_there_yet": NOT_THERE_YET,
    }


def _age_s(at_ms: int | None, now_ms: int) -> float | None:
    return None if at_ms is None else max(0, now_ms - at_ms) / 1000


def _window(view: View) -> Json | None:
    covered, final_to_ms = view.windows.covered(), view.windows.final_to_ms()
    if covered is None or final_to_ms is None:
        return None
    return {"from": to_rfc3339(covered[0]), "to": to_rfc3339(covered[1]), "final_to": to_rfc3339(final_to_ms)}


def _figure(final: Sums, still_open: Sums, name: str) -> Json:
    return {"value": final.counts[name] + still_open.counts[name], "final": final.counts[name]}


def _traffic(final: dict[Slice, Sums], still_open: dict[Slice, Sums]) -> Json:
    done, running = total(final), total(still_open)
    errors = done.errors + running.errors
    return {name: _figure(done, running, name) for name in (*SUMMED, *TOKENS)} | {
        "errors": {code: {"value": errors[code], "final": done.errors[code]} for code, _ in errors.most_common()},
    }


def _cost(final: Sums, still_open: Sums, window: Json | None, now_ms: int) -> Json:
    spent, baseline = (_figure(final, still_open, name) for name in ("cost_nano_usd", "baseline_cost_nano_usd"))
    hours = max(1000, now_ms - from_rfc3339(window["from"])) / 3_600_000 if window else 0.0  # the rate from then to now
    return {
        "spent_nano_usd": spent,
        "baseline_nano_usd": baseline,
        "saved_nano_usd": {part: baseline[part] - spent[part] for part in ("value", "final")},
        "per_hour_nano_usd": {
            "spent": round(spent["value"] / hours),
            "baseline": round(baseline["value"] / hours),
        }
        if hours
        else None,
        "beside_nano_usd": _figure(final, still_open, BESIDE),
        "calls_of_unknown_cost": _figure(final, still_open, "cost_unknown"),
        "baseline_is": "an estimate: the same tokens at the baseline's price",
        "window": window,
    }


def _requests(view: View, lanes: list[Row], now_ms: int, topics_s: float | None) -> Json:
    settle = [load for load in view.loads.values() if load.stage == "settle"]
    if not settle:
        return {"lost": None, "doubled": None, "unfinished": {}, "settled_ids": None, "age_s": topics_s}
    opened = Counter[str]()
    oldest: dict[str, int] = {}
    for load in settle:
        opened.update(load.open)
        for lane, at_ms in load.oldest_at_ms.items():
            oldest[lane] = min(at_ms, oldest.get(lane, at_ms))
    ids = sum(load.ids for load in settle)
    # Settle speaks only when there is news. While it has something to do, its last word is as old as it is.
    busy = opened.total() or any(row.stage == "settle" and row.lag for row in lanes)
    silent_s = (now_ms - max(load.at_ms for load in settle)) / 1000 if busy else 0.0
    return {
        "lost": sum(load.overdue for load in settle),
        "doubled": _doubled(view),
        "unfinished": {
            lane: {"open": opened[lane], "oldest_s": _age_s(oldest.get(lane), now_ms)} for lane in sorted(opened)
        },
        "settled_ids": {
            "kept": ids,
            "window_s": view.setup.dedupe_window_s,
            "max": view.setup.dedupe_max_ids,
            "bound_by": "number" if ids >= view.setup.dedupe_max_ids else "time",
        },
        "age_s": max(silent_s, topics_s or 0.0),
    }


def _doubled(view: View) -> int | None:
    """Results seen twice: feedback reads them all and would notice; null where it has told nothing yet."""
    told = [load.doubled for load in view.loads.values() if load.stage == "feedback"]
    return sum(told) if told else None


def _dead_letters(view: View, now_ms: int, topics_s: float | None) -> Json:
    reasons = Counter[tuple[str, str]]()
    for minute in view.dead.values():
        reasons.update(minute)
    since_ms = min(view.dead, default=now_ms // 60_000) * 60_000
    return {
        "value": reasons.total(),
        "since": to_rfc3339(since_ms),
        "reasons": [{"stage": stage, "code": code, "n": n} for (stage, code), n in reasons.most_common()],
        "age_s": topics_s,
    }


def _models(
    view: View, final: dict[Slice, Sums], still_open: dict[Slice, Sums], now_ms: int, topics_s: float | None
) -> list[Json]:
    done, running = _by_model(final), _by_model(still_open)
    orders = view.standing(now_ms)
    names = dict.fromkeys([*view.setup.models, *sorted(view.health), *sorted({*done, *running} - {"none"})])
    found = []
    for name in names:
        health = view.health.get(name)
        counts = (done.get(name, Sums()), running.get(name, Sums()))
        found.append(
            {
                "model": name,
                "state": health.record.state if health else "up",
                "reason": health.record.reason if health else "not called yet; counts as up",
                "for_s": _age_s(view.since_ms.get(name), now_ms),
                "health_age_s": _age_s(health.at_ms, now_ms) if health else None,
                "error_rate": health.record.error_rate if health else None,
                "p95_ms": health.record.p95_ms if health else None,
                "queue_wait_ms": health.record.queue_wait_ms if health else None,
                "until": health.record.until if health else None,
                "endpoints": health.record.endpoints if health else {},
                "orders": [order.record.action for order in orders if order.record.scope == f"model:{name}"],
                "answered": _figure(*counts, "ok"),
                "attempts": _figure(*counts, "attempts"),
                "cost_nano_usd": _figure(*counts, "cost_nano_usd"),
                "age_s": topics_s,
            }
        )
    return found


def _by_model(parts: dict[Slice, Sums]) -> dict[str, Sums]:
    found: dict[str, Sums] = {}
    for (_, _, model), sums in parts.items():
        found.setdefault(model, Sums()).merge(sums)
    return found


def _sight(view: View, now_ms: int) -> list[Json]:
    """Of each pool what the guard can see of its strata; ``strata`` null: it has said nothing yet."""
    found = []
    for pool in dict.fromkeys([*view.setup.pools, *sorted(view.sights)]):
        held = view.sights.get(pool)
        about: Json = {"margin": None, "strata": None} if held is None else asdict(held.record)
        age_s = None if held is None else _age_s(held.at_ms, now_ms)
        found.append({"pool": pool, "margin": about["margin"], "strata": about["strata"], "age_s": age_s})
    return found


def _weights(view: View, at: tuple[str, str], now_ms: int) -> Json:
    held = view.weights[at]
    return {
        "pool": held.record.pool,
        "stratum": held.record.stratum,
        "weights": held.record.weights,
        "evidence": held.record.evidence,
        "cascade": None if held.record.cascade is None else asdict(held.record.cascade),
        "policy_version": held.record.policy_version,
        "age_s": _age_s(held.at_ms, now_ms),
    }


def _order(order: At[Control], now_ms: int) -> Json:
    record = order.record
    return {
        "scope": record.scope,
        "action": record.action,
        "args": record.args,
        "by": record.by,
        "reason": record.reason,
        "expires_at": record.expires_at,
        "age_s": _age_s(order.at_ms, now_ms),
    }


def _stage(row: Row, groups_s: float | None, now_ms: int) -> Json:
    return {
        "stage": row.stage,
        "lane": row.lane,
        "model": row.model,
        "seen": row.seen,
        "lag": {"value": row.lag, "age_s": groups_s},
        "oldest_waiting_s": row.waiting_s,
        "partitions": [
            {
                "topic": topic,
                "partition": partition,
                "committed": track.committed,
                "end": track.end,
                "lag": track.lag,
                "last_commit_s": _age_s(track.progress_ms, now_ms),
                "still_s": track.still_s(now_ms),
            }
            for (_, topic, partition), track in row.tracks
        ],
    }
