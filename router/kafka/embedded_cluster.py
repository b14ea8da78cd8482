"""Several embedded brokers that hold copies of each other's data, for what happens when one of them is lost.

>>> with EmbeddedCluster() as cluster:
...     os.kill(cluster.brokers[1].pid, signal.SIGKILL)      # the others go on
...     cluster.start_again(1)
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from router.kafka.embedded import EmbeddedKafka, new_cluster_id
from router.kafka.embedded_folder import free_ports
from router.kafka.embedded_settings import Member

#: How long each may take to end in order.
LEAVE_S = 5.0


class EmbeddedCluster:
    """``size`` brokers, each a controller, too; what must be written to all but one of them may lose any one.

    Args:
        size: at least 3, odd: a majority of controllers must live.
        data_dir: a folder a broker is made in it; ``None`` takes a temporary one and removes it on ``stop``.
        how: passed to each ``EmbeddedKafka``.
    """

    def __init__(self, size: int = 3, *, data_dir: str | Path | None = None, **how: Any) -> None:
        self._kept = data_dir is not None
        self._folder = Path(data_dir) if data_dir is not None else Path(tempfile.mkdtemp(prefix="kafka-cluster-"))
        controllers = dict(zip(range(1, size + 1), free_ports(size), strict=True))
        cluster_id = new_cluster_id()
        self.brokers = [
            EmbeddedKafka(
                data_dir=self._folder / f"broker-{number}",
                member=Member(number=number, cluster_id=cluster_id, controllers=controllers),
                **how,
            )
            for number in controllers
        ]

    @property
    def bootstrap(self) -> str:
        """The addresses of all, for clients; valid once started."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def start(self) -> Self:
        """Returns when all serve requests."""
        try:
            for broker in self.brokers:
                broker.launch()
            for broker in self.brokers:
                broker.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def start_again(self, index: int) -> None:
        """One that has ended, on the same data and port."""
        self.brokers[index].stop()
        self.brokers[index].start()

    def stop(self) -> None:
        """The last ones find no majority to leave in order with: so none is asked to when nothing is kept."""
        alive = [broker for broker in self.brokers if broker.alive]
        for broker in alive:
            os.kill(broker.pid, signal.SIGTERM if self._kept else signal.SIGKILL)
        for broker in self.brokers:
            broker.stop(LEAVE_S)
        if not self._kept:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
