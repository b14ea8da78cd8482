"""The simulator's memory of calls: counters, repeats by idempotency key, and a JSONL file that outlives its clients.

A line when a call starts ``{"at_ms", "event": "start", "model", "key", "repeat"}`` and one when it ends, with
``status``: the HTTP status, or ``cut`` when the client went away. Lines are written in batches, five times a second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
import xxhash

#: Keys remembered for telling repeats; the oldest go first.
MAX_KEYS: Final = 1_000_000
FLUSH_S: Final = 0.2


class CallLog:
    """Notes starts and ends. ``path`` is appended to; ``None`` keeps counters only. ``clock_s``: since the epoch."""

    def __init__(self, path: Path | None, clock_s: Callable[[], float]) -> None:
        self._file = path.open("ab") if path is not None else None
        self._clock_s = clock_s
        self._lines: list[bytes] = []
        self._seen: dict[int, None] = {}
        self._started: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()
        self._ended: dict[str, Counter[str]] = {}

    def start(self, model: str, key: str) -> None:
        mark = xxhash.xxh3_64_intdigest(f"{model}\0{key}".encode("utf-8", "surrogatepass"))
        repeat = mark in self._seen
        self._seen[mark] = None
        if len(self._seen) > MAX_KEYS:
            del self._seen[next(iter(self._seen))]
        self._started[model] += 1
        self._repeated[model] += repeat
        self._note({"event": "start", "model": model, "key": key, "repeat": repeat})

    def end(self, model: str, key: str, status: str) -> None:
        self._ended.setdefault(model, Counter())[status] += 1
        self._note({"event": "end", "model": model, "key": key, "status": status})

    def summary(self) -> dict[str, Any]:
        """``calls, repeated, in_hand`` in all and ``models`` with the same and ``ended`` by status for each."""
        models: dict[str, dict[str, Any]] = {
            model: {
                "calls": calls,
                "repeated": self._repeated[model],
                "in_hand": calls - self._ended.get(model, Counter()).total(),
                "ended": dict(self._ended.get(model, {})),
            }
            for model, calls in sorted(self._started.items())
        }
        totals = {name: sum(m[name] for m in models.values()) for name in ("calls", "repeated", "in_hand")}
        return {**totals, "models": models}

    async def keep_flushing(self) -> None:
        """Write what has come up, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            self.flush()

    def flush(self) -> None:
        if self._file is not None and self._lines:
            lines, self._lines = self._lines, []
            self._file.write(b"\n".join(lines) + b"\n")
            self._file.flush()

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()

    def _note(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._lines.append(orjson.dumps({"at_ms": int(self._clock_s() * 1000), **line}))
