"""What a batch job must remember to go on after any death: one small file beside the output, replaced whole.

``ends`` are the ends of the results topic before the first request was sent: no result of this job lies before them.
``sent_bytes`` counts bytes of the input whose requests the broker has acknowledged.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from router.contract.errors import ConfigError


@dataclass(slots=True)
class Journal:
    """Progress of one job."""

    path: Path
    digest: str
    topic: str
    ends: dict[int, int]
    sent_bytes: int = 0

    def save(self) -> None:
        """Replace the file: it is whole at any time."""
        content = asdict(self) | {"path": None, "ends": {str(tp): end for tp, end in self.ends.items()}}
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_bytes(orjson.dumps(content))
        fresh.replace(self.path)


def load(path: Path) -> Journal:
    """Raises ``ConfigError`` when there is none, or it is not one."""
    try:
        found = orjson.loads(path.read_bytes())
        ends = {int(partition): int(end) for partition, end in found["ends"].items()}
        return Journal(path, found["digest"], found["topic"], ends, int(found["sent_bytes"]))
    except FileNotFoundError:
        raise ConfigError(f"--resume: there is no journal {path}; leave --resume out to start anew") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError(f"--resume: {path} is not a journal of this program") from None


def reopen(path: Path) -> BinaryIO:
    """Open an output file to go on with it: a line torn by a crash is cut off."""
    file = path.open("r+b") if path.exists() else path.open("w+b")
    size = file.seek(0, os.SEEK_END)
    at = size
    while at > 0:
        step = min(at, 64 * 1024)
        file.seek(at - step)
        newline = file.read(step).rfind(b"\n")
        if newline >= 0:
            at = at - step + newline + 1
            break
        at -= step
    file.truncate(at)
    file.seek(0)
    return file
