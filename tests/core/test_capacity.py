"""Sizes follow from what one request takes; what it takes is what was measured."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from router.cli import run
from router.config import loads
from router.config.load import example
from router.contract import topics
from router.core import capacity
from router.core.capacity import Workload, plan
from router.kafka import calls

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SCALE = Path(__file__).parents[2] / "docs" / "scale.md"


def amounts(found):
    return {need.name: need.amount for need in found.needs}


def test_ten_times_the_rate_takes_ten_times_the_bytes_and_no_more_than_ten_times_the_processes():
    few, many = plan(Workload(rate=10_000)), plan(Workload(rate=100_000))
    assert many.bytes_per_s == pytest.approx(10 * few.bytes_per_s)
    assert many.disk_bytes == pytest.approx(10 * few.disk_bytes)
    for name, amount in amounts(few).items():
        assert amount <= amounts(many)[name] <= 10 * amount
    assert many.partitions >= few.partitions


def test_what_gives_out_first_comes_first_and_partitions_let_every_process_work():
    found = plan(Workload(rate=50_000, provider_s=10))
    assert found.needs[0].name == "workers"
    assert [need.each for need in found.needs] == sorted(need.each for need in found.needs)
    assert found.partitions >= max(amounts(found)[name] for name in ("route", "settle", "learning"))
    assert found.partitions * found.workload.models >= amounts(found)["workers"]


def test_a_workload_that_fills_one_process_of_a_stage_asks_for_one_and_a_little_more_for_two():
    one = next(need.each for need in plan(Workload(rate=1)).needs if need.name == "settle")
    assert amounts(plan(Workload(rate=one)))["settle"] == 1
    assert amounts(plan(Workload(rate=one * 1.001)))["settle"] == 2


def test_long_prompts_cost_route_time_and_disk():
    short, long = (plan(Workload(rate=1000, prompt_tokens=tokens)) for tokens in (100, 8000))
    each = [next(need.each for need in found.needs if need.name == "route") for found in (short, long)]
    assert each[1] < each[0] / 2
    assert long.disk_bytes > 3 * short.disk_bytes


def test_a_long_prompt_is_counted_in_samples():
    def route_us(prompt_tokens):
        needs = plan(Workload(rate=1000, prompt_tokens=prompt_tokens)).needs
        return next(1e6 * capacity.UTILISATION / one.each for one in needs if one.name == "route")

    assert route_us(700) > route_us(300) + 50
    assert route_us(4000) < route_us(700)
    assert route_us(40_000) > route_us(4000) + 500


def test_it_says_when_the_window_against_duplicates_is_cut_short():
    assert any("5.56 h, not 24 h" in note for note in plan(Workload(rate=1000)).notes)
    assert not any("not 24" in note for note in plan(Workload(rate=100)).notes)


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": float("inf")}, {"rate": 1, "models": 0}, {"rate": -1.0}])
def test_a_figure_that_makes_no_sense_is_named(wrong):
    with pytest.raises(ValueError, match="must be above zero"):
        plan(Workload(**wrong))


def test_its_figures_are_those_that_were_measured():
    """Kept results are of one machine or another: within a half of them."""
    full_path = json.loads((RESULTS / "full_path.json").read_text())["fields"]["cpu_us_per_request"]
    ours = capacity.ROUTE_US + capacity.SETTLE_US + capacity.LEARNING_US
    assert ours == pytest.approx(full_path["all_stages"], rel=0.5)
    assert pytest.approx(full_path["broker"], rel=0.5) == capacity.BROKER_US
    memory = json.loads((RESULTS / "memory.json").read_text())
    grown = next(one["value"] for one in memory["figures"] if one["name"] == "growth, settle")
    assert pytest.approx(grown, rel=0.2) == capacity.ID_BYTES


def test_what_it_says_of_the_product_is_what_the_product_does():
    registry = {one.name: one for one in topics.TOPICS} | {"work": topics.WORK}
    kept = {one.name: one.days for one in capacity.TOPICS if one.name in registry}
    assert len(kept) == len(capacity.TOPICS) - 1
    assert kept == {name: registry[name].retention_ms / topics.DAY_MS for name in kept}
    assert capacity.MOST_CONCURRENCY == calls.MOST_CONCURRENCY
    settle = loads(example()).settle
    assert (settle.dedupe_window_s, settle.dedupe_max_ids) == (
        Workload(rate=1).dedupe_s,
        Workload(rate=1).dedupe_max_ids,
    )


def test_it_foretells_the_rate_that_was_measured_here():
    """All of the full path on two cores: what the sum of CPU times allows, beside what came out."""
    kept = json.loads((RESULTS / "full_path.json").read_text())
    measured = next(one["value"] for one in kept["figures"] if one["name"] == "full path, all stages")
    used_us = capacity.ROUTE_US + capacity.SETTLE_US + capacity.LEARNING_US + capacity.BROKER_US
    assert measured == pytest.approx(kept["machine"]["cores"] * 1e6 / used_us, rel=0.5)


@pytest.mark.parametrize("rate", [1_000, 10_000, 100_000, 1_000_000])
def test_the_page_in_the_documentation_is_what_the_command_prints(rate, capsys):
    assert run(["plan", "--rate", str(rate)]) == 0
    assert capsys.readouterr().out.strip() in SCALE.read_text()


def test_the_command_prints_json_and_names_a_wrong_option(capsys):
    assert run(["plan", "--rate", "1000", "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["partitions"] == plan(Workload(rate=1000)).partitions
    assert json.loads(printed) == json.loads(json.dumps(asdict(plan(Workload(rate=1000)))))  # the same defaults
    assert run(["plan", "--rate", "0"]) == 2
    assert capsys.readouterr().err == "pointsman: --rate: must be above zero, not 0.0\n"
