"""Rows of a made-up world, in which how good a cheap model is depends on the words of a prompt."""

import json
import random

EASY = ("invoice", "opening", "hours", "address", "refund", "parcel", "password", "thanks")
HARD = ("theorem", "integral", "compiler", "deadlock", "enzyme", "statute", "entropy", "tensor")


def rows(count, seed=1, *, graded=False):
    """Dictionaries as lines have them: the strong model is good at all, the cheap one at what is easy."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        hard = draw.random() < 0.5
        words = draw.choices(HARD if hard else EASY, k=3) + draw.choices(EASY + HARD, k=1)
        strong, cheap = 0.9, 0.2 if hard else 0.85
        quality = (lambda p: p) if graded else (lambda p: float(draw.random() < p))
        found.append(
            {
                "id": f"r{number}",
                "prompt": f"Tell me about {' and '.join(words)}, number {draw.randrange(10**6)}",
                "arms": {
                    "strong": {"quality": quality(strong - draw.random() * 0.1), "cost_usd": 0.01},
                    "cheap": {"quality": quality(cheap - draw.random() * 0.1), "cost_usd": 0.001},
                },
                "class": "science" if hard else "service",
            }
        )
    return found


def write(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path
