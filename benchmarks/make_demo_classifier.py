"""Writes ``router/data/demo_classifier.npz``: what the demonstration's classifier knows, kinds of task and ``p_ok`` of its two models.

    python benchmarks/make_demo_classifier.py [--out FILE]

Fitted by what ``pointsman train`` calls, to the texts of ``make_classifier.py``, answered by the models of ``router/data/demo_world.toml``: whether an
answer is good is drawn there as it is in the demonstration. None of the demonstration's own prompts is among them. Its strata are
kinds of task alone, so that the demonstration's table stays short: the bands of difficulty are left away.
"""

from __future__ import annotations

import argparse
import gzip
from dataclasses import replace
from pathlib import Path

import orjson
import xxhash
from make_classifier import texts

from router.core.prompt import read_body
from router.train.report import Trained, trained
from router.train.rows import Arm, Row
from router.work.behaviour import read_world, uniform

DATA = Path(__file__).parent.parent / "router" / "data"
OUT = DATA / "demo_classifier.npz"
MODELS = ("small", "large")


def rows() -> list[Row]:
    """One a text; both models have answered it."""
    world = read_world(DATA / "demo_world.toml")
    shown = {
        orjson.loads(line)["body"]["messages"][-1]["content"]
        for line in gzip.decompress((DATA / "demo_prompts.jsonl.gz").read_bytes()).splitlines()
    }
    found = []
    for number, (text, name, _) in enumerate(zip(*texts(), strict=True)):
        if text in shown:
            continue
        body = {"messages": [{"role": "user", "content": text}]}
        key = xxhash.xxh3_128_hexdigest(orjson.dumps(body["messages"]))
        arms = {model: Arm(float(uniform("good", model, key) < world.of(model).p_good(name))) for model in MODELS}
        found.append(Row(id=f"text-{number}", prompt=read_body(body), arms=arms, task_class=name))
    return found


def made(found: list[Row]) -> Trained:
    """Fitted and judged, nested."""
    return trained(found, files=["texts written for this project, answered by the simulated models"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    found = rows()
    one = made(found)
    artefact = replace(one.artefact, gain_edges={})
    options.out.write_bytes(artefact.to_bytes())
    print(f"{options.out}: version {artefact.version}, {options.out.stat().st_size:,} bytes, {len(found):,} texts")
    print("APGR held out:", one.evaluation.document()["apgr"])


if __name__ == "__main__":
    main()
