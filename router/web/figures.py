"""The installation's figures for Prometheus, from the status document, at ``/metrics`` of the web stage.

Sums are of the last hour, as in ``status``: gauges that also fall. For exact sums read ``llm.metrics``.

| metric | unit |
|---|---|
| ``pointsman_hour_requests``, ``_ok``, ``_attempts``, ``_retries``, ``_fallbacks`` | results and calls |
| ``pointsman_hour_errors{code}`` | failed results |
| ``pointsman_hour_cost_nano_usd``, ``pointsman_hour_baseline_cost_nano_usd`` | nano-dollars |
| ``pointsman_hour_unknown_cost_calls`` | calls |
| ``pointsman_hour_dead_letters{stage,code}`` | records |
| ``pointsman_stage_lag_records{stage,lane,model}`` | records |
| ``pointsman_stage_waiting_seconds{stage,lane,model}`` | age of the oldest unread record; absent when there is none |
| ``pointsman_unfinished_requests{lane}``, ``pointsman_unfinished_oldest_seconds{lane}`` | requests, seconds |
| ``pointsman_lost_requests``, ``pointsman_doubled_results`` | requests; absent while unknown |
| ``pointsman_model_state{model,state}`` | 1 for the state it is in |
| ``pointsman_open_alerts{severity}`` | alerts |
| ``pointsman_figures_age_seconds`` | age of all of the above |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Json = dict[str, Any]


class Figures(Collector):
    """``status`` gives the document of now."""

    def __init__(self, status: Callable[[], Json]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        document = self._status()
        yield from _traffic(document)
        yield from _requests(document["requests"])
        yield from _stages(document["stages"])
        yield _gauge(
            "pointsman_model_state",
            "Health of each model",
            {(one["model"], one["state"]): 1 for one in document["models"]},
            ("model", "state"),
        )
        alerts = Counter((one["severity"],) for one in document["alerts"])
        yield _gauge("pointsman_open_alerts", "Alerts that are not closed", alerts, ("severity",))
        if (age_s := document["verdict"]["age_s"]) is not None:
            yield _gauge("pointsman_figures_age_seconds", "Age of all figures", {(): age_s})

    def describe(self) -> list[Metric]:
        """Nothing ahead: registering must not build a document."""
        return []


def _gauge(name: str, text: str, values: Mapping[Any, float], labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for at, value in values.items():
        family.add_metric(at, value)
    return family


def _traffic(document: Json) -> Iterator[Metric]:
    traffic, cost = document["traffic"], document["cost"]
    for name in ("requests", "ok", "attempts", "retries", "fallbacks"):
        yield _gauge(f"pointsman_hour_{name}", f"{name} of the last hour", {(): traffic[name]["value"]})
    errors = {(code,): count["value"] for code, count in traffic["errors"].items()}
    yield _gauge("pointsman_hour_errors", "Failed results of the last hour", errors, ("code",))
    yield _gauge("pointsman_hour_cost_nano_usd", "Cost of the last hour", {(): cost["spent_nano_usd"]["value"]})
    baseline = {(): cost["baseline_nano_usd"]["value"]}
    yield _gauge("pointsman_hour_baseline_cost_nano_usd", "The same at the baseline's price", baseline)
    unknown = {(): cost["calls_of_unknown_cost"]["value"]}
    yield _gauge("pointsman_hour_unknown_cost_calls", "Calls without a known price in the last hour", unknown)
    dead = {(one["stage"], one["code"]): one["n"] for one in document["dead_letters"]["reasons"]}
    yield _gauge("pointsman_hour_dead_letters", "Dead letters of the last hour", dead, ("stage", "code"))


def _requests(requests: Json) -> Iterator[Metric]:
    if requests["lost"] is not None:
        yield _gauge("pointsman_lost_requests", "Past deadline + 10 s without a result", {(): requests["lost"]})
    if requests["doubled"] is not None:
        yield _gauge("pointsman_doubled_results", "Results seen twice", {(): requests["doubled"]})
    unfinished = requests["unfinished"].items()
    opened = {(lane,): one["open"] for lane, one in unfinished}
    yield _gauge("pointsman_unfinished_requests", "Requests without a result", opened, ("lane",))
    oldest = {(lane,): one["oldest_s"] for lane, one in unfinished if one["oldest_s"] is not None}
    yield _gauge("pointsman_unfinished_oldest_seconds", "Age of the oldest of them", oldest, ("lane",))


def _stages(stages: list[Json]) -> Iterator[Metric]:
    labels = ("stage", "lane", "model")
    at = {(one["stage"], one["lane"], one["model"] or ""): one for one in stages}
    lags = {key: one["lag"]["value"] for key, one in at.items()}
    yield _gauge("pointsman_stage_lag_records", "Records not yet read", lags, labels)
    waiting = {key: one["oldest_waiting_s"] for key, one in at.items() if one["oldest_waiting_s"] is not None}
    yield _gauge("pointsman_stage_waiting_seconds", "Age of the oldest unread record", waiting, labels)
