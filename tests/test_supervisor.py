"""What ends is started again, and the reason is said."""

import os
import signal
import time

from router.supervisor import Supervisor


def poll_until(supervisor, condition):
    ends_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends_s, "waited in vain"
        supervisor.poll()
        time.sleep(0.02)


def test_a_child_that_ends_is_started_again_and_its_last_words_are_told(tmp_path):
    told = []
    supervisor = Supervisor(told.append)
    supervisor.add("web", ["run", "nowhere"], tmp_path / "logs" / "web.log", os.environ)
    try:
        poll_until(supervisor, lambda: len(told) == 2)
    finally:
        supervisor.stop()
    assert told[0] == told[1]
    assert told[0].startswith("web ended (exit code 2: ")
    assert "nowhere" in told[0]
    assert told[0].endswith(f"; its log: {tmp_path}/logs/web.log")


def test_a_child_that_was_killed_is_told_by_the_signal(tmp_path):
    told = []
    supervisor = Supervisor(told.append)
    supervisor.add("sim", ["sim", "--port=0"], tmp_path / "sim.log", os.environ)
    first = supervisor.children["sim"].pid
    os.kill(first, signal.SIGKILL)
    try:
        poll_until(supervisor, lambda: supervisor.children["sim"].pid not in (None, first))
    finally:
        supervisor.stop()
    assert told == [f"sim ended (signal SIGKILL), starting it again; its log: {tmp_path}/sim.log"]
