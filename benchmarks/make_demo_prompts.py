"""Writes ``router/data/demo_prompts.jsonl.gz``: requests for the demonstration, from the hand-written parts beside this.

    python benchmarks/make_demo_prompts.py [--out FILE] [--check]

Deterministic: the same parts give the same bytes, which ``--check`` verifies. A text may hold ``<<name>>``, one of the
parts of that name (the same one throughout a prompt), ``<<name*>>``, another one each time, and ``<<3..40>>``, a whole
number. No two prompts are alike. ``router.metadata.task_class`` is the true class, for display only; the simulated
provider reads the same from ``body.metadata``, where a router must not look.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import re
import sys
import tomllib
from pathlib import Path
from random import Random
from typing import Any

import orjson

HERE = Path(__file__).parent
OUT = HERE.parent / "router" / "data" / "demo_prompts.jsonl.gz"
SEED = 2026
COUNTS = {
    "code": 320, "math": 260, "summarise": 240, "extract": 240,
    "translate": 220, "support": 280, "creative": 200, "reasoning": 240,
}  # fmt: skip
#: Of all conversations: this share belongs to a session, and support conversations go on for some turns.
SESSION_SHARE, TURNS = 0.4, (1, 1, 1, 2, 3, 4)
SLOT = re.compile(r"<<(\w+\*?|\d+\.\.\d+)>>")


class Prompt:
    """Fills the slots of one prompt."""

    def __init__(self, parts: dict[str, list[str]], dice: Random) -> None:
        self._parts, self._dice = parts, dice
        self._chosen: dict[str, str] = {}
        self._used: dict[str, list[str]] = {}

    def fill(self, text: str) -> str:
        return SLOT.sub(lambda slot: self._slot(slot[1]), text)

    def _slot(self, name: str) -> str:
        if ".." in name:
            low, high = map(int, name.split(".."))
            return str(self._dice.randint(low, high))
        if name.endswith("*"):
            return self._another(name[:-1])
        if name not in self._chosen:
            self._chosen[name] = self._another(name)
        return self._chosen[name]

    def _another(self, name: str) -> str:
        """One that this prompt has not used yet, as long as there is one."""
        used = self._used.setdefault(name, [])
        unused = [part for part in self._parts[name] if part not in used] or self._parts[name]
        part = self._dice.choice(unused)
        used.append(part)
        return self.fill(part)


def conversations(task_class: str, count: int, shared: dict[str, list[str]]) -> list[list[list[dict[str, str]]]]:
    """``count`` requests in conversations: each a list of growing message lists. Templates are used in turn."""
    source = tomllib.loads((HERE / "demo_parts" / f"{task_class}.toml").read_text("utf-8"))
    dice, parts = Random(f"{SEED}-{task_class}"), shared | source["parts"]
    seen: set[str] = set()
    made: list[list[list[dict[str, str]]]] = []
    for template in itertools.cycle(source["templates"]):
        left = count - sum(map(len, made))
        if left == 0:
            return made
        prompt = Prompt(parts, dice)
        question = prompt.fill(template)
        if question in seen:
            continue
        seen.add(question)
        system = prompt.fill(dice.choice(source["systems"]))
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": question})
        turns = [list(messages)]
        for reply, follow_up in _more(source, min(dice.choice(TURNS), left) - 1, dice):
            messages.append({"role": "assistant", "content": reply})
            messages.append({"role": "user", "content": prompt.fill(follow_up)})
            turns.append(list(messages))
        made.append(turns)
    raise AssertionError


def _more(source: dict[str, Any], turns: int, dice: Random) -> list[tuple[str, str]]:
    """How a conversation goes on: answers, and what is said to them; nothing twice."""
    if "follow_ups" not in source:
        return []
    return list(zip(dice.sample(source["replies"], turns), dice.sample(source["follow_ups"], turns), strict=True))


def requests() -> list[dict[str, Any]]:
    """All lines, classes mixed, turns of a conversation in order."""
    shared = tomllib.loads((HERE / "demo_parts" / "shared.toml").read_text("utf-8"))["parts"]
    dice = Random(SEED)
    mixed = [(name, turns) for name, count in COUNTS.items() for turns in conversations(name, count, shared)]
    dice.shuffle(mixed)
    limits = {n: tomllib.loads((HERE / "demo_parts" / f"{n}.toml").read_text("utf-8"))["max_tokens"] for n in COUNTS}
    lines: list[dict[str, Any]] = []
    for number, (task_class, turns) in enumerate(mixed):
        tenant = "acme" if dice.random() < 0.65 else "globex"
        session = f"{tenant}-{number:04d}" if len(turns) > 1 or dice.random() < SESSION_SHARE else None
        for messages in turns:
            body = {
                "model": "auto",
                "messages": messages,
                "max_tokens": dice.choice(limits[task_class]),
                "metadata": {"task_class": task_class},
            }
            router = {"tenant": tenant, "metadata": {"task_class": task_class}}
            if session is not None:
                router["session"] = session
            lines.append({"method": "POST", "url": "/v1/chat/completions", "body": body, "router": router})
    return [{"custom_id": f"demo-{number:04d}", **line} for number, line in enumerate(lines, start=1)]


def packed() -> bytes:
    """The file's bytes: gzip without a time stamp."""
    return gzip.compress(b"".join(orjson.dumps(line) + b"\n" for line in requests()), 9, mtime=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--check", action="store_true", help="compare with what is there, write nothing")
    options = parser.parse_args()
    if options.check:
        sys.exit(gzip.decompress(options.out.read_bytes()) != gzip.decompress(packed()))
    options.out.write_bytes(packed())
    print(f"{options.out}: {len(requests())} requests, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
