"""What counting tokens costs: against tiktoken alone on ordinary text, and hostile text against ordinary text.

    python benchmarks/tokens.py [--json]

CPU time of this process, best of several. Hostile texts are as large in bytes as the ordinary one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.parts import cpu_us
from benchmarks.report import Report, finish, options
from router.core.tokens import EXACT_BYTES, count, o200k_base

SENTENCE = (
    "The committee met on a rainy Tuesday, read the 1,204 letters it had received, and decided (not without some "
    "quarrelling) that nothing should be done until the harbour had been dredged. "
)
SIZES = (400, EXACT_BYTES, 8_000, 65_536, 900_000)
HOSTILE_SIZES = (EXACT_BYTES, 65_536, 900_000)
CAVEATS = ["the ordinary text is English prose written for this file; other languages cost more a byte, as in tiktoken"]
HOSTILE: dict[str, Callable[[int], str]] = {
    "spaces": lambda size: " " * size,
    "newlines": lambda size: "\n" * size,
    "one letter": lambda size: "a" * size,
    "capitals": lambda size: "A" * size,
    "letters without a break": lambda size: "qzxjkvbw" * (size // 8),
    "exclamation marks": lambda size: "!" * size,
    "slash, newline": lambda size: "/\n" * (size // 2),
    "ideographs": lambda size: "".join(chr(0x4E00 + 37 * i % 20_000) for i in range(size // 3)),
    "emoji": lambda size: "\U0001f600" * (size // 4),
    "combining marks": lambda size: "a" + "\u0301" * (size // 2),
}


def ordinary(size: int) -> str:
    return (SENTENCE * (size // len(SENTENCE) + 1))[:size]


def measure() -> Report:
    report = Report("tokens", caveats=CAVEATS)
    encode = o200k_base().encode_ordinary
    for size in SIZES:
        text, repeats = ordinary(size), max(1, 100_000 // size)
        alone, ours = (
            cpu_us(lambda work=work, texts=[text] * repeats: [work(one) for one in texts], of=repeats)
            for work in (encode, count)
        )
        name = f"ordinary text, {size:,} bytes"
        report.add(name, round(ours, 1), "us", reference=round(alone, 1), reference_is="tiktoken alone")
    for size in HOSTILE_SIZES:
        texts = {name: make(size) for name, make in HOSTILE.items()}
        plain = cpu_us(lambda text=ordinary(size): count(text))  # noqa: B008 - made once, as meant
        spent = {name: cpu_us(lambda text=text: count(text)) for name, text in texts.items()}
        worst = max(spent, key=spent.__getitem__)
        name = f"hostile text, {size:,} bytes, worst: {worst}"
        report.add(name, round(spent[worst], 1), "us", reference=round(plain, 1), reference_is="ordinary text")
        report.details[f"hostile to ordinary, {size} bytes"] = {
            one: round(value / plain, 2) for one, value in spent.items()
        }
    return report


def main() -> None:
    finish(measure(), options(__doc__).parse_args().json)


if __name__ == "__main__":
    main()
