"""The simulator through the real HTTP path, and its behaviours as values."""

from __future__ import annotations

import asyncio
from statistics import median

import aiohttp
import orjson
import pytest

from router.contract.errors import ConfigError
from router.work.behaviour import Behaviour, World, read_world
from router.work.endpoints import Place
from router.work.openai_http import OpenAIHttp, new_session
from router.work.sim import Simulator, serving

QUICK = {"latency_ms": 1.0, "latency_sigma": 0.0}


async def answers_of(simulator, works, budget_s=5.0, places=None):
    async with serving(simulator) as base, new_session() as session:
        provider = OpenAIHttp([Place(name="default", base_url=base)], session)
        return await asyncio.gather(*(provider.call(work, budget_s=budget_s, headers={}) for work in works))


def simulator(log_path=None, **behaviour):
    return Simulator(World(models={"small-2026": Behaviour(**QUICK | behaviour)}), log_path)


async def test_an_answer_looks_like_a_providers_and_tells_the_truth_beside_it(work):
    (answer,) = await answers_of(simulator(served_model="small-2026-05", quality={"default": 1.0}), [work])
    assert (answer.status, answer.served_model) == ("ok", "small-2026-05")
    assert answer.usage.prompt_tokens > 0
    assert answer.body["choices"][0]["finish_reason"] == "stop"
    assert answer.body["sim"] == {"good": True, "task_class": "general"}


async def test_a_model_may_always_say_the_same(work):
    (answer,) = await answers_of(simulator(says="B"), [work])
    assert answer.body["choices"][0]["message"]["content"] == "B"


async def test_embeddings_are_served(new_work):
    work = new_work(url="/v1/embeddings", body={"model": "e", "input": ["a", "b"]})
    (answer,) = await answers_of(simulator(), [work])
    assert answer.status == "ok"
    assert len(answer.body["data"]) == 2


async def test_quality_is_a_share_of_the_prompts_of_a_class_and_the_same_again(new_work):
    works = [new_work(n) for n in range(200)]
    first = await answers_of(simulator(quality={"default": 0.7}), works)
    again = await answers_of(simulator(quality={"default": 0.7}), [new_work(n, attempt=2) for n in range(200)])
    good = [answer.body["sim"]["good"] for answer in first]
    assert good == [answer.body["sim"]["good"] for answer in again]
    assert 0.6 < sum(good) / len(good) < 0.8


async def test_quality_goes_by_the_task_class_of_the_prompt_or_of_its_metadata(new_work):
    def asks(text, **more):
        return new_work(body={"model": "x", "messages": [{"role": "user", "content": text}], **more})

    works = [asks("Solve this equation"), asks("Say hello"), asks("Say hello", metadata={"task_class": "math"})]
    answers = await answers_of(simulator(quality={"default": 1.0, "math": 0.0}), works)
    assert [answer.body["sim"]["good"] for answer in answers] == [False, True, False]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("503", "error", "http_503"), ("429", "rate_limited", "rate_limited"), ("400", "error", "invalid_request"),
     ("hang", "timeout", "timeout"), ("cut", "error", "connection_error"), ("malformed", "error", "malformed_answer"),
     ("truncated", "truncated", "truncated"), ("refused", "refused", "content_filter")],
)  # fmt: skip
async def test_each_kind_of_error_is_what_the_caller_sees(kind, status, code, work):
    (answer,) = await answers_of(simulator(errors={kind: 1.0}), [work], budget_s=0.3 if kind == "hang" else 5)
    assert (answer.status, answer.error.code) == (status, code)


async def test_errors_come_at_their_rate_and_a_retry_draws_anew(new_work):
    works = [new_work(n, attempt=attempt) for attempt in (1, 2) for n in range(150)]
    statuses = [answer.status for answer in await answers_of(simulator(errors={"503": 0.3}), works)]
    assert 0.2 < statuses.count("error") / len(statuses) < 0.4
    assert statuses[:150] != statuses[150:]


async def test_beyond_its_rate_a_model_answers_429_with_a_wait(new_work):
    limited = simulator(requests_per_s=5, retry_after_s=3)
    answers = await answers_of(limited, [new_work(n) for n in range(20)])
    refused = [answer for answer in answers if answer.status == "rate_limited"]
    assert len(refused) >= 14
    assert max(answer.error.retry_after_ms for answer in refused) == 3000


async def test_the_call_log_tells_starts_ends_and_repeats(new_work, tmp_path):
    path = tmp_path / "calls.jsonl"
    noting = simulator(path)
    await answers_of(noting, [new_work(1), new_work(1), new_work(2), new_work(1, attempt=2)])
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    starts = [line for line in lines if line["event"] == "start"]
    assert len(starts) == len(lines) / 2 == 4
    assert sum(line["repeat"] for line in starts) == 1
    assert {line["key"] for line in starts} == {f"{1:032x}-1", f"{2:032x}-1", f"{1:032x}-2"}
    assert noting.calls.summary() == {
        "calls": 4, "repeated": 1, "in_hand": 0,
        "models": {"small-2026": {"calls": 4, "repeated": 1, "in_hand": 0, "ended": {"200": 4}}},
    }  # fmt: skip


async def test_a_caller_who_goes_away_ends_the_call(work):
    hanging = simulator(errors={"hang": 1.0})
    await answers_of(hanging, [work], budget_s=0.2)
    assert hanging.calls.summary()["models"]["small-2026"]["ended"] == {"cut": 1}


async def test_behaviour_changes_while_it_serves(work):
    living = simulator()
    async with serving(living) as base, new_session() as session, aiohttp.ClientSession() as person:
        provider, root = OpenAIHttp([Place(name="default", base_url=base)], session), base.removesuffix("/v1")
        assert (await provider.call(work, budget_s=5, headers={})).status == "ok"
        change = {"models": {"small-2026": {"errors": {"503": 1.0}}}}
        async with person.post(f"{root}/sim/behaviour", json=change) as response:
            shown = await response.json()
        assert shown["models"]["small-2026"]["errors"] == {"503": 1.0}
        assert shown["models"]["small-2026"]["latency_ms"] == 1.0
        assert (await provider.call(work, budget_s=5, headers={})).error.code == "http_503"
        async with person.post(f"{root}/sim/behaviour", json={"models": {"x": {"speed": 3}}}) as response:
            assert response.status == 400
            assert "models.x.speed" in (await response.json())["error"]["message"]
        async with person.get(f"{root}/sim/calls") as response:
            assert (await response.json())["calls"] == 2


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"model": 3}', b'{"model": "m", "messages": 7}', b'{"model": "m", "messages": [3]}']
)
async def test_no_body_breaks_it(body):
    async with serving(simulator()) as base, aiohttp.ClientSession() as person:
        async with person.post(f"{base}/chat/completions", data=body) as response:
            assert response.status in {200, 400}
        async with person.get(f"{base}/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["small-2026"]


def test_latency_is_log_normal_around_its_median():
    behaviour = Behaviour(latency_ms=200, latency_sigma=0.5)
    draws = [(n + 0.5) / 1001 for n in range(1001)]
    assert median(behaviour.latency_s(draw) for draw in draws) == pytest.approx(0.2, rel=0.01)
    assert behaviour.latency_s(0.95) > 0.4
    assert Behaviour(latency_ms=200, latency_sigma=0).latency_s(0.99) == pytest.approx(0.2)


def test_a_world_is_read_from_a_toml_file(tmp_path):
    path = tmp_path / "world.toml"
    path.write_text(
        '[models.default]\nlatency_ms = 7\n[models.small.quality]\nmath = 0.5\n[[classes]]\nname = "sport"\nany = ["Ball"]\n'
    )
    world = read_world(path)
    assert world.of("never heard of").latency_ms == 7
    assert world.of("small").p_good("math") == 0.5
    assert world.of("small").p_good("else") == 0.9
    assert (world.task_class("the ball"), world.task_class("solve")) == ("sport", "general")


@pytest.mark.parametrize(
    ("text", "named"),
    [("[models.a]\nspeed = 1", "models.a.speed"), ("[models.a]\nlatency_ms = -1", "models.a.latency_ms"),
     ("[models.a.errors]\nboom = 0.1", "models.a.errors.boom"), ("[models.a.errors]\n503 = 0.7\ncut = 0.7", "models.a.errors"),
     ("[models.a.quality]\nmath = 2", "models.a.quality.math"), ("[[classes]]\nname = 3", "classes"), ("oops", "world.toml"),
     ("[speed]", "speed"), ("[models]\na = 3", "models.a")],
)  # fmt: skip
def test_a_wrong_world_names_file_and_key(text, named, tmp_path):
    path = tmp_path / "world.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        read_world(path)
    assert "world.toml" in str(caught.value)


async def test_log_probabilities_are_told_when_asked_for_and_tell_good_answers_from_bad(new_work):
    works = [new_work(n) for n in range(300)]
    for one in works:
        one.body["logprobs"] = True
    answers = await answers_of(simulator(quality={"default": 0.5}, certainty=1.0), works)
    sure = {True: [], False: []}
    for answer in answers:
        told = [one["logprob"] for one in answer.body["choices"][0]["logprobs"]["content"]]
        assert all(one <= 0.0 for one in told)
        sure[answer.body["sim"]["good"]].append(sum(told) / len(told))
    assert median(sure[True]) > median(sure[False]) + 0.8
    (silent,) = await answers_of(simulator(), [new_work(999)])
    assert silent.body["choices"][0]["logprobs"] is None
