"""Every fault by its name: what is done to a running installation under load, drawn from a seed.

A fault returns when it is over, which is not when all has healed. It counts the crashes of workers that it may have
caused (``Rig.crashed``) where no ended process tells of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from benchmarks.disturb.rig import GUEST, PARTITIONS, Beside, Brokers, Rig
from benchmarks.stub import StubWorkers, lay_out, request
from benchmarks.system import wait_for
from router.contract.topics import Names
from router.kafka.admin import end_offsets
from router.kafka.client import Client
from router.stages import NAMES as STAGES
from router.stages.settle import MOST_OPEN

#: Kafka gives a silent process up after this long, by the configuration's default.
SESSION_S = 6.0
#: A backlog: requests at once, twice. Settle opens all of the first, which is more than those beyond which it leaves
#: decisions unread; so those of the second wait, while the outcomes of the first come in.
PILE = MOST_OPEN * PARTITIONS * 3 // 2
PILED_S = 180.0

Act = Callable[[Rig, Random], None]
ANY: tuple[Brokers, ...] = ("own", "proxied", "three")
SINGLE: tuple[Brokers, ...] = ("own", "proxied")


@dataclass(frozen=True, slots=True)
class Fault:
    """What to do, and where.

    ``brokers``: with which of them it can be done, the first where it is done alone; ``apart``: alone it is done to an
    installation with a process for each stage; ``all_ok``: whether every request may be answered well in spite of it.
    """

    act: Act
    brokers: tuple[Brokers, ...] = ANY
    apart: bool = False
    all_ok: bool = True


def kill(stage: str) -> Act:
    """SIGKILL to the process of a stage, or of a worker."""
    return lambda rig, _draw: rig.send(rig.home_of(stage), signal.SIGKILL)


def kill_everything(rig: Rig, draw: Random) -> None:
    """Supervisor, stages, workers, provider, and the broker if it is the installation's own; then all of it again."""
    rig.crashed(2)
    rig.kill_everything()
    time.sleep(draw.uniform(0, 2))
    rig.start()


def zombie(rig: Rig, draw: Random) -> None:
    """A process stands still for longer than its session, another takes its partitions; then it wakes."""
    home, second = _second(rig, draw)
    try:
        time.sleep(1)
        rig.send(home, signal.SIGSTOP)
        time.sleep(SESSION_S + draw.uniform(2, 4))
        rig.send(home, signal.SIGCONT)
        time.sleep(3)
    finally:
        second.end()


def join_and_leave(rig: Rig, draw: Random) -> None:
    """Partitions move while transactions are open: a second process comes, and goes politely or not."""
    _, second = _second(rig, draw)
    time.sleep(draw.uniform(1, 3))
    second.end(draw.choice([signal.SIGTERM, signal.SIGKILL]))


def _second(rig: Rig, draw: Random) -> tuple[str, Beside]:
    """The process of some stage or worker, and another one of the same."""
    stage = draw.choice([*STAGES, "worker"])
    if stage == "worker":
        rig.crashed(2)  # its partitions move there and back; calls that outlive the grace are cut off
    return rig.home_of(stage), rig.beside("worker:small" if stage == "worker" else stage)


def kill_broker(rig: Rig, draw: Random) -> None:
    """And start it again on the same data."""
    rig.crashed(2)
    os.kill(rig.broker_pid, signal.SIGKILL)
    time.sleep(draw.uniform(0, 2))
    rig.revive_broker()
    time.sleep(5)


def lose_one_of_three(rig: Rig, draw: Random) -> None:
    """A broker that leads a third of all partitions, perhaps a coordinator, perhaps the controller."""
    assert rig.cluster is not None
    rig.crashed(2)
    lost = draw.randrange(3)
    os.kill(rig.cluster.brokers[lost].pid, signal.SIGKILL)
    time.sleep(draw.uniform(5, 10))
    rig.cluster.start_again(lost)


def broker_disk_full(rig: Rig, draw: Random) -> None:
    """Nothing can be written any more: Kafka gives its folder up and ends; then there is room again."""
    rig.crashed(2)
    pid = rig.broker_pid
    rig.fill_disk(pid)
    wait_for(lambda: not _lives(pid), 20)
    if _lives(pid):  # nothing had to be written yet
        os.kill(pid, signal.SIGKILL)
    time.sleep(draw.uniform(0, 2))
    rig.revive_broker()
    time.sleep(5)


def router_disk_full(rig: Rig, draw: Random) -> None:
    """A process cannot write its log and its marks any more; what is started after it can."""
    name = draw.choice(rig.names())
    rig.fill_disk(rig.pid(name))
    time.sleep(5)
    rig.send(name, signal.SIGKILL)


def network(how: str) -> Act:
    """Between the router and its broker: ``cut``, ``mute``, or ``delay``."""

    def act(rig: Rig, draw: Random) -> None:
        assert rig.proxy is not None
        rig.crashed(2)
        if how == "delay":
            rig.proxy.delay(draw.randint(50, 300))
        elif how == "cut":
            rig.proxy.cut()
        else:
            rig.proxy.mute()
        time.sleep(draw.uniform(3, SESSION_S + 4))
        rig.proxy.heal()

    return act


def clock_jumps(rig: Rig, draw: Random) -> None:
    """The wall clock of one process is wrong for a while, by up to an hour either way."""
    name = draw.choice(rig.names())
    rig.move_clock(name, draw.choice([-3600.0, -30.0, -2.0, 2.0, 30.0, 3600.0]))
    time.sleep(draw.uniform(3, 8))
    rig.move_clock(name, 0.0)


def backlog(rig: Rig, draw: Random) -> None:
    """Far more at once than the stages carry, and settle is killed while it leaves decisions unread to catch up.

    What comes behind waits for it, on a busy machine until its deadline.
    """
    model, home, first = "elsewhere", rig.home_of("settle"), draw.randrange(10**9)
    names = Names(rig.prefix)
    pile = [request(number, model="pile") for number in range(first, first + 2 * PILE)]
    results = _ends(rig, names.of("results"))
    asyncio.run(lay_out(rig.bootstrap, names.of("requests"), pile[:PILE], PARTITIONS))
    work = names.work(model, "interactive")
    wait_for(lambda: _ends(rig, work) >= PILE, PILED_S, every_s=1.0)
    with StubWorkers(rig.bootstrap, names, [model], group="stub"):
        asyncio.run(lay_out(rig.bootstrap, names.of("requests"), pile[PILE:], PARTITIONS))
        for _ in range(2):
            time.sleep(draw.uniform(1, 4))
            rig.send(home, signal.SIGKILL)
        wait_for(lambda: _ends(rig, names.of("results")) >= results + len(pile), PILED_S, every_s=1.0)


def _ends(rig: Rig, topic: str) -> int:
    """How far a topic reaches, with the markers of transactions."""
    return sum(asyncio.run(end_offsets(Client(rig.bootstrap), [topic])).values())


def rolling_restart(rig: Rig, draw: Random) -> None:
    """Each process is asked to end, and the next when it is back: as for a new version."""
    names = rig.names()
    draw.shuffle(names)
    for name in names:
        _restart(rig, name)


def model_joins_and_leaves(rig: Rig, draw: Random) -> None:
    """A model is added to the configuration and its worker started; later it is drained and taken out again."""
    place = rig.folder / "pointsman.toml"
    before = place.read_text()
    place.write_text(before.replace('models = ["small", "large"]', 'models = ["small", "large", "guest"]') + GUEST)
    rig.run("topics", "create")
    for stage in ("route", "settle", "learn"):
        _restart(rig, rig.home_of(stage))
    rig.crashed(2)
    guest = rig.beside("worker:guest")
    time.sleep(draw.uniform(4, 8))
    rig.run("drain", "model:guest", "--by", "faults", "--reason", "it leaves")
    time.sleep(3)
    guest.end()
    place.write_text(before)
    for stage in ("route", "settle", "learn"):
        _restart(rig, rig.home_of(stage))
    rig.run("release", "model:guest", "--by", "faults", "--reason", "it has left")


def _restart(rig: Rig, name: str) -> None:
    before = rig.pid(name)
    rig.send(name, signal.SIGTERM)
    wait_for(lambda: rig.processes.get(name, before) != before, 30)
    rig.wait_ready(name)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


FAULTS: dict[str, Fault] = {
    **{f"kill-{stage}": Fault(kill(stage), apart=True) for stage in (*STAGES, "worker", "web")},
    **{f"kill-process-of-{stage}": Fault(kill(stage)) for stage in ("route", "settle", "learn", "worker")},
    "kill-everything": Fault(kill_everything),
    "kill-everything-apart": Fault(kill_everything, apart=True),
    "zombie": Fault(zombie),
    "join-and-leave": Fault(join_and_leave),
    "kill-broker": Fault(kill_broker, SINGLE),
    "lose-one-of-three": Fault(lose_one_of_three, ("three",)),
    "broker-disk-full": Fault(broker_disk_full, SINGLE),
    "router-disk-full": Fault(router_disk_full),
    "network-cut": Fault(network("cut"), ("proxied",)),
    "network-mute": Fault(network("mute"), ("proxied",)),
    "network-delay": Fault(network("delay"), ("proxied",)),
    "clock-jumps": Fault(clock_jumps, all_ok=False),
    "backlog": Fault(backlog, all_ok=False),
    "rolling-restart": Fault(rolling_restart),
    "model-joins-and-leaves": Fault(model_joins_and_leaves),
}
