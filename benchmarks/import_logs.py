"""How fast past logs are imported: lines a second of CPU time, beside orjson that only parses the same file.

    python benchmarks/import_logs.py [--json] [--lines 200000]

The file is made here: payloads of LiteLLM with the demo's prompts, an answer of some hundred bytes and what else LiteLLM writes, 1.7 KB a
line. ``pointsman import`` runs as a process, its start included, with rows written and without; orjson loads one line after the other.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.report import Report, finish, options
from router.demo.play import demo_prompts

LINES = 200_000
REFERENCE = "orjson alone"
CAVEATS = ["prompts are short (the demo's, 75 tokens in the mean): longer ones take longer to count"]


def payloads(count: int) -> Iterator[bytes]:
    draw = random.Random(1)
    prompts = [orjson.loads(line)["body"]["messages"] for line in demo_prompts()]
    for number in range(count):
        yield orjson.dumps(payload(number, draw, draw.choice(prompts))) + b"\n"


def payload(number: int, draw: random.Random, messages: list[dict[str, str]]) -> dict[str, Any]:
    """As LiteLLM's StandardLoggingPayload, the fields that weigh something."""
    asked = sum(len(message["content"]) for message in messages) // 4 + 7
    said = max(1, int(draw.lognormvariate(4.5, 0.8)))
    usage = {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    return {
        "id": f"chatcmpl-{number}",
        "trace_id": f"{number:032x}",
        "call_type": "acompletion",
        "stream": False,
        "response_cost": (asked * 2.5 + said * 10) / 1e6,
        "status": "success",
        "custom_llm_provider": "openai",
        "total_tokens": asked + said,
        "prompt_tokens": asked,
        "completion_tokens": said,
        "startTime": 1_756_700_000.0 + number,
        "endTime": 1_756_700_001.5 + number,
        "model": "gpt-4o-2024-08-06",
        "model_group": "large",
        "metadata": {"user_api_key_alias": "team-a", "usage_object": usage, "requester_metadata": {"score": 1}},
        "cache_hit": False,
        "request_tags": [],
        "end_user": "someone",
        "messages": messages,
        "response": {"choices": [{"message": {"role": "assistant", "content": "word " * said}}], "usage": usage},
        "model_parameters": {"temperature": 0.2},
    }


def imported(file: Path, *arguments: str) -> float:
    """CPU seconds."""
    began_s = _children_s()
    command = [sys.executable, "-m", "router", "import", str(file), "--json", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=file.parent)
    return _children_s() - began_s


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parsed(file: Path) -> float:
    """CPU seconds."""
    began_s = time.process_time()
    with file.open("rb") as lines:
        for line in lines:
            orjson.loads(line)
    return time.process_time() - began_s


def measure(count: int) -> Report:
    report = Report("import_logs", caveats=CAVEATS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log.jsonl"
        with file.open("wb") as log:
            log.writelines(payloads(count))
        alone = round(count / parsed(file))
        report.details["bytes_per_line"] = round(file.stat().st_size / count)
        for name, arguments in (("report alone", ()), ("report and rows", ("--out", "rows.jsonl"))):
            rate = round(count / imported(file, *arguments))
            report.add(f"import, {name}", rate, "lines/CPU s", reference=alone, reference_is=REFERENCE)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    report.add("memory of it, at most", round(peak / (1024 if sys.platform == "linux" else 1024**2)), "MiB")
    return report


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--lines", type=int, default=LINES)
    given = parser.parse_args()
    finish(measure(given.lines), given.json)


if __name__ == "__main__":
    main()
