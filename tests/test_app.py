"""A process ends when it has to, whatever its libraries leave behind."""

import subprocess
import sys

import pytest

ENDS = """
import asyncio
from router import app

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def run(*_):
    asyncio.get_running_loop().left = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    return {code}

app._run = run
app.run_process(None, [], [], "test")
"""


@pytest.mark.parametrize("code", [0, 1])
def test_it_ends_though_a_task_does_not_heed_that_it_is_cancelled(code):
    done = subprocess.run([sys.executable, "-c", ENDS.format(code=code)], timeout=60, check=False)
    assert done.returncode == code
