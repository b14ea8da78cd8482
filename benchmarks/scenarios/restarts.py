"""After a restart of everything each decision can be made again, byte by byte, from its record and its snapshot."""

from __future__ import annotations

from collections import Counter

from benchmarks.scenarios.show import Show
from benchmarks.system import System, requests
from router.history.replay import Snapshots, replay


def replay_all(show: Show) -> None:
    """Decisions from before an orderly stop, from between it and a kill of everything, and from after that."""
    with System() as system:
        _some(show, system, "first", 500)
        show.check(system.stop() == 0, "the orderly stop failed")
        show.check(not (left := system.orphans_after(5.0)), f"left after the end: {left}")
        system.start()
        _some(show, system, "second", 1000)
        system.kill_everything()
        system.start()
        _some(show, system, "third", 1500)
        show.results(system, system.values("results"), 1500)
        snapshots = Snapshots({record.key.decode(): record.value for record in system.records("snapshots")})
        replays = [replay(record.value, snapshots) for record in system.records("decisions")]
        verdicts = Counter(str(one.verdict) for one in replays)
        show.say(replays=dict(verdicts))
        show.check(verdicts == {"identical": 1500}, "a decision is made in another way now")
        for one in [one for one in replays if one.differences][:3]:
            show.problems.append(f"{one.request_id}: {one.differences[0]}")
        show.audit(system)
        show.conclude(system)


def _some(show: Show, system: System, name: str, total: int) -> None:
    system.produce("requests", requests(500, name, session=f"{name}-session"), rate=250)
    show.check(len(system.results(total, 60)) == total, f"results of the {name} run are missing")
