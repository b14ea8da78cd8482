"""CPU microseconds a request of LiteLLM's Router in the same position: two models, an answer that is there at once.

    python benchmarks/litellm_router.py [--requests 2000]

What it is compared with in ``full_path.py``, in the same run, when it is installed (``pip install 'pointsman[litellm]'``).
Prints the figure alone, or nothing when there is no LiteLLM.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # called as a file, as well as imported

from benchmarks.stub import TEXT

WARM = 100


def cpu_us() -> float | None:
    """The figure, of a process of its own; ``None`` without LiteLLM."""
    if importlib.util.find_spec("litellm") is None:
        return None
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True, timeout=300)
    return float(done.stdout.split()[-1])


async def measure(requests: int) -> float:
    import litellm  # noqa: PLC0415 - takes seconds, and need not be there

    litellm.suppress_debug_info = True
    models = [
        {
            "model_name": "auto",
            "litellm_params": {"model": f"openai/{name}", "api_key": "none", "mock_response": "word " * 40},
        }
        for name in ("small", "large")
    ]
    router = litellm.Router(model_list=models, num_retries=0)
    messages = [{"role": "user", "content": TEXT}]

    async def ask(count: int) -> None:
        for _ in range(count):
            await router.acompletion(model="auto", messages=messages, max_tokens=256)

    await ask(WARM)
    began_s = time.process_time()
    await ask(requests)
    return (time.process_time() - began_s) / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    if importlib.util.find_spec("litellm") is not None:
        print(round(asyncio.run(measure(asked.requests)), 1))


if __name__ == "__main__":
    main()
