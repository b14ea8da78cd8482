"""The act of the cascade: small answers first, its doubtful answers go on to large, and labels say which are doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from router.config import Config
from router.contract.codec import decode
from router.contract.records import Decision, Feedback, ReviewItem
from router.contract.topics import Names
from router.demo.story import Careful
from router.kafka.client import Client
from router.kafka.scan import scan

POOL = "careful"


def requests_of(name: str, lines: Sequence[bytes]) -> list[bytes]:
    """Some of the demonstration's requests, to the pool with the cascade."""
    found = []
    for line in lines:
        request = orjson.loads(line)
        body = request["body"] | {"model": POOL}
        found.append(orjson.dumps(request | {"custom_id": f"{name}-{request['custom_id']}", "body": body}))
    return found


async def outcome_of(client: Client, names: Names, config: Config, results: Sequence[Mapping[str, Any]]) -> Careful:
    """What the cascade made of them, by their first decisions."""
    ids = {one["id"] for one in results}
    trials = []
    async for record in scan(client, [names.of("decisions")]):
        if record.value is not None and (record.key or b"").decode() in ids:
            decision = decode(Decision, record.value)
            if decision.attempt == 1 and decision.cascade is not None and decision.cascade.threshold is not None:
                trials.append(decision.cascade)
    alone = {model: sum(_alone(one, config, model) for one in results) for model in ("small", "large")}
    return Careful(
        threshold=sum(trial.threshold or 0.0 for trial in trials) / max(1, len(trials)),
        calibrated=sum(trial.calibrated for trial in trials) / max(1, len(trials)),
        results=results,
        all_on_large=alone["large"],
        all_on_small=alone["small"],
    )


async def labels_of(client: Client, names: Names, results: Sequence[Mapping[str, Any]]) -> list[Feedback]:
    """A reviewer's words on the sampled answers of small, also on those that nobody got: by what the simulated provider says of them."""
    ids = {one["id"] for one in results}
    truth: dict[tuple[str, int], bool] = {}
    async for record in scan(client, [names.of("outcomes")]):
        found = orjson.loads(record.value or b"{}")
        if found.get("request_id") in ids and found.get("body"):
            truth[found["request_id"], found["attempt"]] = bool(found["body"]["sim"]["good"])
    labels = []
    async for record in scan(client, [names.of("reviews")]):
        item = decode(ReviewItem, record.value)
        good = truth.get((item.request_id, item.attempt or 0))
        if good is not None:
            said = {"request_id": item.request_id, "attempt": item.attempt}
            labels.append(Feedback(**said, kind="label", value=float(good), source="reviewer"))  # type: ignore[arg-type]
    return labels


def labelled(status: Mapping[str, Any]) -> int:
    """How many labels count so far."""
    cascades = [one["cascade"] for one in status["weights"] if one["pool"] == POOL and one["cascade"]]
    return sum(served["labels"] for cascade in cascades for served in cascade["served"].values())


def _alone(result: Mapping[str, Any], config: Config, model: str) -> int:
    """What the answer's tokens cost on one model, nano-dollars."""
    usage, price = (result["response"] or {"body": {}})["body"].get("usage", {}), config.models[model].price
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return int(prompt * price.input_nano_usd_per_token + completion * price.output_nano_usd_per_token)
