"""The review queue over HTTP, on the real stages in memory: what leaves, what is taken, and from whom."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest

from router.contract.ids import request_id
from router.core.token import open_token
from router.web.keys import Key
from tests.stages.system import NAMES
from tests.web.review_world import CONFIG, TEXT, World, get, post

ANN, BOB = "ann-12345", "bob-12345"
PAIRS = (
    CONFIG.replace("reviews_per_day = 1000000", "reviews_per_day = 1000000\nshadow_percent = 100")
    + "[reviews]\ntext = true\n"
)


def key(secret: str, tenant: str, role: str) -> tuple[Key, dict[str, str]]:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return Key(sha256=digest, tenant=tenant, role=role), {"Authorization": f"Bearer {secret}"}


async def test_an_answer_is_shown_judged_counted_and_gone():
    world = World()
    world.asked("a")
    async with world.served() as client:
        status, found = await get(client, reviewer=ANN)
        assert (status, found["waiting"], found["texts"], found["today"]) == (
            200,
            1,
            True,
            {"done": 0, "wanted": 1_000_000},
        )
        (item,) = found["items"]
        assert (item["prompt"], item["answer"]) == ("user: hello", "Certainly.")
        assert await post(client, id=item["id"], value=0.25, comment="thin") == (202, {"id": item["id"], "value": 0.25})
        (sent,) = world.log.records(NAMES.of("feedback"))
        said = json.loads(sent.value)
        assert (said["kind"], said["source"], said["attempt"], said["comment"]) == ("review", "reviewer", 1, "thin")
        assert open_token(said["feedback_token"], world.context.keyring, world.clock()).request_id == request_id(
            "default", "a"
        )
        assert (await get(client, reviewer=BOB))[1]["items"] == []
        (reward,) = world.rewards()
        assert (reward.reward, reward.source) == (0.25, "reviewer")
        _, after = await get(client, reviewer=BOB)
        assert (after["waiting"], after["today"]["done"]) == (0, 1)
        assert (await post(client, id=item["id"], value=1))[0] == 409


async def test_nothing_that_leaves_says_who_answered():
    """Also not of pairs, whose second answer is an attempt by the baseline in the shadow."""
    world = World(PAIRS)
    world.asked("a", "b", "c")
    async with world.served() as client:
        _, found = await get(client, reviewer=ANN, limit=10)
    assert len(found["items"]) == 6
    assert {frozenset(one) for one in found["items"]} == {
        frozenset({"id", "pool", "stratum", "due_at", "prompt", "answer", "cut"})
    }
    text = json.dumps(found)
    for secret in [
        "small",
        "large",
        "pilot",
        "shadow",
        "token",
        "inclusion",
        "attempt",
        *(request_id("default", n) for n in "abc"),
    ]:
        assert secret not in text


async def test_the_names_are_the_same_after_a_restart_and_others_with_another_secret():
    one, two = World(), World()
    for world in (one, two):
        world.asked("a")
    async with one.served() as first, two.served() as second:
        assert (await get(first))[1]["items"][0]["id"] == (await get(second))[1]["items"][0]["id"]


async def test_two_reviewers_do_not_get_the_same_one_until_the_first_leaves_it():
    world = World()
    world.asked("a", "b", "c")
    async with world.served() as client:
        mine = [one["id"] for one in (await get(client, reviewer=ANN, limit=2))[1]["items"]]
        _, theirs = await get(client, reviewer=BOB, limit=2)
        assert len(mine) == 2
        assert len(theirs["items"]) == 1
        assert theirs["elsewhere"] == 2
        assert theirs["items"][0]["id"] not in mine
        await get(client, reviewer=ANN, limit=0, keep=mine[1])
        assert mine[0] in [one["id"] for one in (await get(client, reviewer=BOB, limit=3))[1]["items"]]
        world.clock.advance(180_000)
        assert len((await get(client, reviewer="eve-12345", limit=3))[1]["items"]) == 3


async def test_what_is_skipped_or_kept_does_not_come_again_and_a_cursor_goes_on():
    world = World()
    world.asked(*"abcd")
    async with world.served() as client:
        _, page = await get(client, limit=3)
        first = [one["id"] for one in page["items"]]
        _, rest = await get(client, limit=3, cursor=page["cursor"])
        assert rest["cursor"] is None
        assert sorted(first + [one["id"] for one in rest["items"]]) == sorted(
            one["id"] for one in (await get(client, limit=4))[1]["items"]
        )
        _, found = await get(client, reviewer=ANN, limit=4, skip=first[0], keep=first[1])
        assert len(found["items"]) == 2
        assert found["skipped"] == 1


async def test_only_what_was_chosen():
    world = World()
    world.asked("a", "b")
    async with world.served() as client:
        _, found = await get(client, pool="other", limit=2)
        assert (found["items"], found["waiting"], found["today"]["wanted"]) == ([], 0, 0)
        (group,) = found["groups"]
        assert (group["pool"], group["waiting"]) == ("auto", 2)
        assert len((await get(client, pool="auto", stratum=group["stratum"], limit=2))[1]["items"]) == 2


async def test_with_texts_off_none_leaves_and_no_opinion_is_taken():
    world = World(CONFIG)
    world.asked("a")
    async with world.served() as client:
        _, found = await get(client, reviewer=ANN)
        (item,) = found["items"]
        assert (found["texts"], item["prompt"], item["answer"], item["stratum"] != "") == (False, None, None, True)
        status, said = await post(client, id=item["id"], value=1)
        assert (status, said["error"]["code"]) == (403, "texts_are_off")


async def test_items_from_before_texts_were_turned_on_are_read_where_they_lie_and_redacted():
    world = World(CONFIG)
    world.asked("a")
    after = World(TEXT)
    after.log = world.log
    async with after.served(redact=lambda text: text.replace("hello", "[name]\ud800")) as client:
        (item,) = (await get(client))[1]["items"]
    assert (item["prompt"], item["answer"]) == ("user: [name]?", "Certainly.")


async def test_an_answer_whose_text_is_gone_is_passed_over():
    world = World(CONFIG)
    world.asked("a", "b")
    after = World(TEXT)
    after.log = world.log
    fetch, gone = after.fetch, request_id("default", "a")
    (lost,) = [one.answer_at for one in map(_item, world.log.records(NAMES.of("reviews"))) if one.request_id == gone]

    async def without(at):
        found = await fetch(at)
        return {place: value for place, value in found.items() if place != (lost.topic, lost.partition, lost.offset)}

    after.fetch = without
    async with after.served() as client:
        _, found = await get(client, limit=2)
        assert (len(found["items"]), found["waiting"]) == (1, 1)


def _item(record):
    from router.core.reviewing import item_in  # noqa: PLC0415 - beside its only use

    return item_in(record.value)


async def test_long_texts_leave_whole_and_longer_ones_are_called_cut():
    world = World(CONFIG)
    world.said[request_id("default", "long")] = "y" * 100_000
    world.said[request_id("default", "huge")] = "z" * 500_000
    world.asked("long", "huge")
    after = World(TEXT)
    after.log = world.log
    async with after.served() as client:
        found = {one["answer"][0]: one for one in (await get(client, limit=2))[1]["items"]}
    assert (len(found["y"]["answer"]), found["y"]["cut"]["answer"]) == (100_000, False)
    assert (len(found["z"]["answer"]), found["z"]["cut"]["answer"]) == (400_000, True)


async def test_while_kafka_is_away_it_says_so_and_what_could_not_be_sent_waits_again():
    world = World()
    world.asked("a")
    async with world.served() as client:
        (item,) = (await get(client, reviewer=ANN))[1]["items"]
        world.away = True
        status, said = await get(client)
        assert (status, said["error"]["code"]) == (503, "not_ready")
        assert "does not answer" in said["error"]["message"]
        ready, world.ready = world.ready, _nothing  # Kafka goes between the question and the record
        assert (await post(client, id=item["id"], value=1))[0] == 503
        world.away, world.ready = False, ready
        assert (await get(client, reviewer=ANN))[1]["items"] == [item]
        assert (await post(client, id=item["id"], value=1))[0] == 202


async def _nothing():
    pass


async def test_a_tenants_operator_sees_its_own_answers_a_viewer_none_an_admin_all():
    world = World()
    world.asked("a", router={"tenant": "acme"})
    world.asked("b", router={"tenant": "other"})
    (acme, acmes), (admin, admins), (viewer, viewers) = (
        key("one", "acme", "operator"),
        key("two", "default", "admin"),
        key("three", "acme", "viewer"),
    )
    async with world.served([acme, admin, viewer]) as client:
        assert (await get(client))[0] == 401
        assert (await get(client, viewers))[0] == 403
        everything = {one["id"] for one in (await get(client, admins, limit=5))[1]["items"]}
        _, found = await get(client, acmes, limit=5)
        (mine,) = found["items"]
        assert len(everything) == 2
        assert (found["waiting"], found["groups"][0]["waiting"]) == (1, 1)
        (other,) = everything - {mine["id"]}
        assert (await post(client, acmes, id=other, value=1))[0] == 404
        assert (await post(client, viewers, id=mine["id"], value=1))[0] == 403
        assert (await post(client, acmes, id=mine["id"], value=1))[0] == 202
        assert (await client.get("/review")).status == 200  # the page itself tells nothing


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"id": "x", "value": 1}, "id"),
        ({"id": "0" * 16, "value": 2}, "value"),
        ({"id": "0" * 16, "value": True}, "value"),
        ({"id": "0" * 16, "value": "1"}, "value"),
        ({"id": "0" * 16}, "value"),
        ({"id": "0" * 16, "value": 1, "comment": "x" * 4001}, "comment"),
        ([], "object"),
    ],
)
async def test_an_opinion_that_is_none_is_named(said, named):
    world = World()
    async with world.served() as client:
        answer = await client.post("/v1/reviews", json=said)
        assert answer.status == 400
        assert named in (await answer.json())["error"]["message"]


async def test_what_is_no_json_too_long_or_unknown_is_refused():
    world = World()
    async with world.served() as client:
        assert (
            await client.post("/v1/reviews", data=b'{"id": "0"}', headers={"Content-Type": "text/plain"})
        ).status == 415
        assert (await client.post("/v1/reviews", data={"id": "0"})).status == 415
        assert (await client.post("/v1/reviews", json={"id": "0" * 16, "value": 1, "x": "y" * 70_000})).status == 413
        assert (
            await client.post("/v1/reviews", data=b"\xff{", headers={"Content-Type": "application/json"})
        ).status == 400
        assert (await post(client, id="0" * 16, value=1))[0] == 404


@pytest.mark.parametrize(
    "query", [{"reviewer": "x"}, {"reviewer": "a b c d e f"}, {"limit": "-1"}, {"limit": "11"}, {"limit": "٣"}, {"cursor": "1"}, {"keep": "zz"}, {"skip": ",".join(["0" * 16] * 201)}, {"pool": "p" * 201}]
)  # fmt: skip
async def test_a_question_that_is_none_is_named(query):
    world = World()
    async with world.served() as client:
        status, said = await get(client, **query)
        assert status == 400
        assert said["error"]["message"].startswith(next(iter(query)))


async def test_the_page_is_one_file_that_loads_nothing_and_runs_nothing_but_itself():
    world = World()
    async with world.served() as client:
        answer = await client.get("/review")
        page = await answer.text()
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == f"'sha256-{digest}'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert not re.search(
        r"https?://|//[a-z]+\.|innerHTML|insertAdjacentHTML|document\.write|\bon[a-z]+\s*=\s*\"|style\s*=\s*\"", page
    )
    ids = re.findall(r'id="([a-z-]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\$\("([a-z-]+)"\)', script)) <= set(ids)
