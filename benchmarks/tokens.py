"""What counting tokens costs: against tiktoken alone on ordinary text, and hostile text against ordinary text.

    python benchmarks/tokens.py

CPU time of this process, best of several. Hostile texts are as large in bytes as the ordinary one. Caveat: the ordinary
text is English prose written for this file; other languages cost more a byte, in tiktoken as here.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

from router.core.tokens import EXACT_BYTES, count, o200k_base

SENTENCE = (
    "The committee met on a rainy Tuesday, read the 1,204 letters it had received, and decided (not without some "
    "quarrelling) that nothing should be done until the harbour had been dredged. "
)
SIZES = (400, 4_000, EXACT_BYTES, 900_000)
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


def cpu_us(work: Callable[[], object], repeats: int) -> float:
    """Best CPU time of one call, in microseconds."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(repeats):
            work()
        best = min(best, (time.process_time() - began) / repeats)
    return best * 1e6


def main() -> None:
    encode = o200k_base().encode_ordinary
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print(f"{'ordinary text':>24} {'tiktoken us':>12} {'count us':>10} {'ratio':>6}")
    for size in SIZES:
        text = (SENTENCE * (size // len(SENTENCE) + 1))[:size]
        repeats = max(1, 100_000 // size)
        alone, ours = cpu_us(lambda text=text: encode(text), repeats), cpu_us(lambda text=text: count(text), repeats)
        print(f"{size:>18} bytes {alone:>12.1f} {ours:>10.1f} {ours / alone:>6.2f}")
    for size in (4_000, EXACT_BYTES, 900_000):
        text = (SENTENCE * (size // len(SENTENCE) + 1))[:size]
        ordinary = cpu_us(lambda text=text: count(text), 3)
        texts = {name: make(size) for name, make in HOSTILE.items()}
        ratios = {name: cpu_us(lambda text=text: count(text), 1) / ordinary for name, text in texts.items()}
        worst = max(ratios, key=ratios.__getitem__)
        print(f"\nhostile to ordinary, {size} bytes (ordinary: {ordinary:.0f} us); worst: {worst} {ratios[worst]:.2f}")
        print("  " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main()
