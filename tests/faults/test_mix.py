"""Several faults in one installation under load: all is exact afterwards. ``pointsman bench faults`` does it at length."""

from benchmarks import faults


def test_nothing_is_lost_doubled_or_miscounted_whatever_is_killed_paused_or_moved():
    disturbed = ["kill-process-of-settle", "zombie", "kill-broker", "kill-process-of-worker"]
    found = faults.run("test", 1, disturbed, "own", apart=True, rate=25)
    assert not found["problems"], found
    assert found["figures"]["results"] == {"ok": found["figures"]["requests"]}
    assert found["figures"]["requests"] > 500
    assert found["figures"]["rewards"] > 20
    assert found["figures"]["opinions"]["forged"] > 20
