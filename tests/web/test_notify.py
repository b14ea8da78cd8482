"""Alerts leave the system: once each, again after a refusal for the moment, in the words of who listens."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
from aiohttp import web

from router.contract.codec import encode
from router.contract.records import Alert, AlertAction, Effect, Money, Reference
from router.contract.topics import Names
from router.kafka.admin import TopicSpec, create_topics
from router.kafka.client import Client
from router.kafka.put import Said, put
from router.web.notify import Notifier, as_alertmanager, headline

ALERT = Alert(
    id="ab" * 16,
    state="open",
    severity="page",
    pool="auto",
    stratum="math/hard",
    signal="quality",
    model=None,
    effect=Effect(value=0.2, low=0.1, high=0.3),
    reference=Reference(kind="concurrent baseline traffic", n=300),
    since="2026-11-20T00:00:00.000Z",
    evidence={"summary": "20.0 points more of the pilot's answers are bad"},
    traffic_share=0.2,
    money=Money(at_risk_nano_usd_per_day=5, saving_nano_usd_per_day=3),
    action=AlertAction(
        taken="its pilot traffic goes to the baseline", command="pointsman rollback X", undo="pointsman release X"
    ),
    at="2026-11-21T00:00:00.000Z",
)


def test_a_headline_says_where_what_and_what_was_done() -> None:
    assert headline(ALERT) == (
        "[page, open] auto/math/hard: 20.0 points more of the pilot's answers are bad. Its pilot traffic goes to the baseline."
    )


def test_alertmanager_gets_labels_annotations_and_the_end_of_a_closed_one() -> None:
    (found,) = as_alertmanager(ALERT)
    assert found["labels"] == {
        "alertname": "pointsman_quality",
        "severity": "page",
        "pool": "auto",
        "stratum": "math/hard",
    }
    assert found["annotations"]["undo"] == "pointsman release X"
    assert found["startsAt"] == ALERT.since
    assert "endsAt" not in found
    assert as_alertmanager(replace(ALERT, state="closed"))[0]["endsAt"] == ALERT.at


async def test_it_posts_in_order_tries_again_and_goes_on_after_a_restart(client: Client, prefix: str) -> None:
    names = Names(prefix)
    await create_topics(client, {names.of("alerts"): TopicSpec(partitions=1)})
    taken: list[tuple[str, object]] = []
    answers = iter((503, 200, 200, 400, 200, 200, 200))

    async def take(request: web.Request) -> web.Response:
        status = next(answers, 200)
        if status == 200:
            taken.append((request.path, orjson.loads(await request.read())))
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/{tail:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        for number, state in enumerate(("open", "acknowledged", "closed")):
            notifier = Notifier(client, names, f"{url}/hook", url)
            await put(client, names.of("alerts"), [Said(b"k", encode(replace(ALERT, state=state)))])  # type: ignore[arg-type]
            await notifier.start()
            while notifier.sent < 1:  # noqa: ASYNC110 - nothing of it tells more
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            await notifier.stop()
            assert notifier.sent == 1, number
    finally:
        await runner.cleanup()
    hooks = [body["alert"]["state"] for path, body in taken if path == "/hook"]  # type: ignore[index]
    assert hooks == ["open", "closed"]  # the one that was refused for good is not tried again
    assert [path for path, _ in taken].count("/api/v2/alerts") == 3
