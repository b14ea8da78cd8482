"""What compression costs and saves: bytes on the wire, CPU time of the stages and the broker, the rate of the full path.

    python benchmarks/compression.py [--requests 20000] [--rounds 3] [--json]

All stages run with ``kafka.compression`` set to each value in turn; the same stub workers and requests, uncompressed, each
time. Counted are the bytes in the log of the topics that stages write. Reference of each: no compression, of the same round.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.full_path import BROKER, stages_rate
from benchmarks.report import Report, finish, options
from benchmarks.stages import CONFIG, PROCESSES
from benchmarks.stub import request
from router.kafka.embedded import EmbeddedKafka

CODECS = ("none", "auto", "snappy", "zstd", "lz4", "gzip")
NONE = "no compression"
WRITTEN = ("decisions", "work.small", "work.large", "results", "usage")
CAVEATS = [
    "all share this machine's two cores: what compression saves of network and disk is not felt here, what it takes of CPU is",
    "codecs come in this order in each round, on one broker: later ones find a warm broker and the topics of those before",
    "prompts are alike, so a batch of work records compresses better than one of real prompts",
]


def log_bytes(data: Path, prefix: str) -> int:
    """Of the topics that stages write."""
    folders = (folder for name in WRITTEN for folder in data.glob(f"**/{prefix}.{name}-*"))
    return sum(log.stat().st_size for folder in folders for log in folder.glob("*.log"))


def carry(kafka: EmbeddedKafka, data: Path, prefix: str, codec: str, requests: int) -> dict[str, float]:
    """Rate, and bytes and CPU microseconds a request."""
    config = f'{CONFIG}\n[kafka]\ncompression = "{codec}"\n'
    values = [request(number) for number in range(requests)]
    found = stages_rate(kafka, prefix, PROCESSES["all stages"], values, config=config)
    cpu_us = found["cpu_us"]
    return {
        "per_s": found["per_s"],
        "bytes": log_bytes(data, prefix) / requests,
        "stages_us": sum(cpu_us[name] for name in PROCESSES["all stages"]),
        "broker_us": cpu_us[BROKER],
    }


def measure(requests: int, rounds: int) -> Report:
    report = Report("compression", caveats=CAVEATS)
    found: list[dict[str, dict[str, float]]] = []
    with (
        tempfile.TemporaryDirectory(prefix="pointsman-compression-") as folder,
        EmbeddedKafka(data_dir=folder) as kafka,
    ):
        for number in range(rounds):
            data = Path(folder)
            found.append({codec: carry(kafka, data, f"c{number}{codec}", codec, requests) for codec in CODECS})
    units: dict[str, tuple[str, str]] = {
        "bytes": ("bytes in the log", "a request"),
        "stages_us": ("CPU of all stages", "us a request"),
        "broker_us": ("CPU of the broker", "us a request"),
        "per_s": ("full path, all stages", "requests/s"),
    }
    for figure, (name, unit) in units.items():
        values: dict[str, Any] = {
            codec: round(statistics.median(one[codec][figure] for one in found)) for codec in CODECS
        }
        for codec in CODECS[1:]:
            report.add(f"{name}, {codec}", values[codec], unit, reference=values["none"], reference_is=NONE)
    report.details = {"requests": requests, "rounds": found}
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader for a moment
    finish(measure(asked.requests, asked.rounds), asked.json)


if __name__ == "__main__":
    main()
