"""``server.properties`` of the embedded broker: one node on one small machine, plain or with SASL/SCRAM over TLS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: The largest record of any topic is 4 MiB; batch header, key and headers come on top.
MAX_MESSAGE_BYTES = 5 * 1024 * 1024

#: No replication, small internal topics, groups that form at once.
BROKER_DEFAULTS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Nobody could take over. A broker that is fenced because it was slow would leave out markers of transactions.
    "broker.session.timeout.ms": "18000",
    "message.max.bytes": str(MAX_MESSAGE_BYTES),
    "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
}

SCRAM = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScramTls:
    """How clients of a secured broker prove themselves, and how it does.

    ``keystore_pem``: the server's private key (PKCS #8) and its certificate chain, for 127.0.0.1 and localhost.
    """

    username: str
    password: str = field(repr=False)
    keystore_pem: str = field(repr=False)

    @property
    def scram_entry(self) -> str:
        """The user, as ``StorageTool format --add-scram`` takes it."""
        return f"{SCRAM}=[name={self.username},password={self.password}]"


def controller_alone(folder: Path, controller: int) -> str:
    """``server.properties`` of a run of the controller without the broker, which gives the broker up after a second."""
    settings = {
        "process.roles": "controller",
        "node.id": BROKER_DEFAULTS["node.id"],
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"CONTROLLER://127.0.0.1:{controller}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT",
        "log.dirs": f"{folder}/data",
        "broker.session.timeout.ms": "1000",
    }
    return _lines(settings)


def properties(
    folder: Path, ports: tuple[int, int, int], partitions: int, secured: ScramTls | None, more: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The text of ``server.properties``, and of the files it points to by name.

    ``ports``: for clients, for the controller, and for the broker's own requests where clients must log in.
    """
    clients, controller, internal = ports
    listeners = {"PLAINTEXT": clients}
    files: dict[str, str] = {}
    settings = BROKER_DEFAULTS | {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": f"{folder}/data",
        "num.partitions": str(partitions),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
    }
    if secured is not None:
        listeners = {"SASL_SSL": clients, "PLAINTEXT": internal}
        files["keystore.pem"] = secured.keystore_pem
        settings |= {
            "sasl.enabled.mechanisms": SCRAM,
            f"listener.name.sasl_ssl.{SCRAM.lower()}.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": f"{folder}/keystore.pem",
        }
    addresses = [f"{name}://127.0.0.1:{port}" for name, port in listeners.items()]
    settings["advertised.listeners"] = ",".join(addresses)
    settings["listeners"] = ",".join([*addresses, f"CONTROLLER://127.0.0.1:{controller}"])
    return _lines({**settings, **more}), files


def _lines(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())
