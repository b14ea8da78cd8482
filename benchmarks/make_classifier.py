"""Writes ``router/data/classifier.npz``: the classifier that is shipped. It knows kinds of task, and no model.

    python benchmarks/make_classifier.py [--out FILE] [--templates-left-out]

Fitted to texts that were written for this project and to nothing else: the parts of the demonstration (``demo_parts``) and
``classifier_parts``, each template filled ``FILLED`` times. What it is worth is measured by leaving whole templates out, a
fifth at a time: no text is then asked whose like was learned.
"""

from __future__ import annotations

import argparse
import tomllib
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
from make_demo_prompts import COUNTS, Prompt

from router.core.artefact import Artefact
from router.core.features import features_of
from router.core.tokens import read
from router.train.fit import heads_of

HERE = Path(__file__).parent
OUT = HERE.parent / "router" / "data" / "classifier.npz"
SEED, FILLED, FOLDS = 2026, 20, 5


def templates() -> list[tuple[str, str, dict[str, list[str]]]]:
    """(class, template, parts that fill it)."""
    shared = tomllib.loads((HERE / "demo_parts" / "shared.toml").read_text("utf-8"))["parts"]
    found = []
    for name in COUNTS:
        source = tomllib.loads((HERE / "demo_parts" / f"{name}.toml").read_text("utf-8"))
        found += [(name, template, shared | source["parts"]) for template in source["templates"]]
    more = tomllib.loads((HERE / "classifier_parts" / "templates.toml").read_text("utf-8"))
    parts = shared | more.pop("parts")
    return found + [(name, template, parts) for name, listed in more.items() for template in listed]


def texts() -> tuple[list[str], list[str], list[int]]:
    """Texts, the class of each, and the number of the template that each is of."""
    dice = Random(SEED)
    made: list[str] = []
    classes: list[str] = []
    origin: list[int] = []
    for number, (name, template, parts) in enumerate(templates()):
        filled = {Prompt(parts, dice).fill(template) for _ in range(FILLED)}
        made += sorted(filled)
        classes += [name] * len(filled)
        origin += [number] * len(filled)
    return made, classes, origin


def fitted(asked: list[str], classes: list[str]) -> Artefact:
    """Classes alone."""
    return Artefact(heads_of(features_of([read(text)[1] for text in asked]), classes), {}, {})


def left_out(made: list[str], classes: list[str], origin: list[int]) -> dict[str, float]:
    """Share of texts that get their class, by class and of all, when their template was not learned."""
    fold_of = np.random.default_rng(SEED).permutation(max(origin) + 1) % FOLDS
    folds = fold_of[origin]
    right = np.zeros(len(made), np.bool_)
    for fold in range(FOLDS):
        known = [at for at in range(len(made)) if folds[at] != fold]
        asked = [at for at in range(len(made)) if folds[at] == fold]
        heads = fitted([made[at] for at in known], [classes[at] for at in known]).heads
        found, _ = heads.predict([read(made[at])[1] for at in asked])
        right[asked] = [one == classes[at] for one, at in zip(found, asked, strict=True)]
    named = np.array(classes)
    return {name: round(float(right[named == name].mean()), 3) for name in sorted(set(classes))} | {
        "all": round(float(right.mean()), 3)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    made, classes, origin = texts()
    right = left_out(made, classes, origin)
    card = {
        "fitted_on": "texts written for this project: benchmarks/demo_parts, benchmarks/classifier_parts; no other data",
        "texts": len(made),
        "templates": max(origin) + 1,
        "right_on_templates_left_out": right,
    }
    artefact = replace(fitted(made, classes), card=card)
    options.out.write_bytes(artefact.to_bytes())
    print(f"{options.out}: version {artefact.version}, {options.out.stat().st_size:,} bytes, {len(made)} texts")
    print("right on templates left out:", right)


if __name__ == "__main__":
    main()
