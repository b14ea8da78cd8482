"""Starting, being asked, and ending."""

from __future__ import annotations

import json
import os
import signal
import socket

from benchmarks.system import PATIENCE_S, SUPERVISOR, System, requests, summary, wait_for
from router.cluster import EMBEDDED_PARTITIONS


def test_a_second_up_in_the_same_folder_is_refused(system):
    second = system.run("up")
    assert second.returncode == 2
    assert len(second.stderr.splitlines()) == 1
    assert str(system.data_dir) in second.stderr


def test_a_broker_that_does_not_start_again_at_once_is_tried_again():
    with System() as system:
        system.produce("requests", requests(20))
        assert summary(system.results(20)) == {"ok": 20}
        told = (system.folder / "up.log").read_text
        port = int(system.bootstrap.rpartition(":")[2])
        supervisor = system.processes[SUPERVISOR]
        os.kill(supervisor, signal.SIGSTOP)
        os.kill(system.broker_pid, signal.SIGKILL)
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            assert wait_for(lambda: _bound(taken, port), PATIENCE_S)
            taken.listen()
            os.kill(supervisor, signal.SIGCONT)
            assert wait_for(lambda: "trying again in 2 s" in told(), PATIENCE_S)
        assert wait_for(lambda: "the broker runs again" in told(), PATIENCE_S)
        system.produce("requests", requests(20, "again"))
        assert summary(system.results(40)) == {"ok": 40}


def _bound(taken, port):
    try:
        taken.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def test_status_answers_while_the_broker_is_down_and_an_orderly_stop_leaves_nothing_running():
    with System() as system:
        system.produce("requests", requests(100))
        assert summary(system.results(100)) == {"ok": 100}
        assert {record.partition for record in system.records("decisions")} == set(range(EMBEDDED_PARTITIONS))
        assert wait_for((system.data_dir / "status.json").exists, PATIENCE_S)
        os.kill(system.broker_pid, signal.SIGSTOP)
        try:
            frozen = system.run("status", "--json")
        finally:
            os.kill(system.broker_pid, signal.SIGCONT)
        assert frozen.returncode == 0
        assert {"verdict", "models", "stages", "alerts", "weights", "cost", "changes"} <= json.loads(
            frozen.stdout
        ).keys()
        assert system.stop() == 0
        assert system.orphans_after(10.0) == []
        stopped = system.run("status")
        assert stopped.returncode == 0
        assert "pointsman up" in stopped.stdout
