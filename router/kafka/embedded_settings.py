"""``server.properties`` of an embedded broker on one small machine: alone or one of several, plain or with SASL and TLS."""

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
class Member:
    """One broker of several. ``controllers``: of all of them, by number, the port of its controller."""

    number: int
    cluster_id: str
    controllers: Mapping[int, int]

    @property
    def settings(self) -> dict[str, str]:
        """As many copies as brokers; a record counts when all but one have it."""
        size, enough = str(len(self.controllers)), str(len(self.controllers) - 1)
        return {
            "node.id": str(self.number),
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{port}" for n, port in self.controllers.items()),
            "offsets.topic.replication.factor": size,
            "transaction.state.log.replication.factor": size,
            "transaction.state.log.min.isr": enough,
            "default.replication.factor": size,
            "min.insync.replicas": enough,
            "broker.session.timeout.ms": "3000",
            # How long writes wait for the copy of a broker that is gone; Kafka's own default is half a minute.
            "replica.lag.time.max.ms": "3000",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ScramTls:
    """How clients of a secured broker prove themselves, and how it does.

    ``keystore_pem``: the server's private key (PKCS #8) and its certificate chain, for 127.0.0.1 and localhost.
    ``others``: further users, with their passwords.
    """

    username: str
    password: str = field(repr=False)
    keystore_pem: str = field(repr=False)
    others: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def scram_entries(self) -> list[str]:
        """The users, as ``StorageTool format --add-scram`` takes them."""
        users = {self.username: self.password, **self.others}
        return [f"{SCRAM}=[name={name},password={password}]" for name, password in users.items()]


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
    folder: Path,
    ports: tuple[int, int, int],
    partitions: int,
    *,
    secured: ScramTls | None = None,
    advertised: int = 0,
    member: Member | None = None,
    more: Mapping[str, str],
) -> tuple[str, dict[str, str]]:
    """The text of ``server.properties``, and of the files it points to by name.

    Args:
        folder: of the broker.
        ports: for clients, for the controller, and for the brokers' own requests where clients have a way of their own.
        partitions: of a topic that is created without saying how many.
        secured: clients must log in.
        advertised: the port that clients are told to use, where something stands between them and the broker, which
            then is not ``secured``; 0 for its own.
        member: the broker is one of several.
        more: entries that win over all others.
    """
    clients, controller, internal = ports
    listeners = {"PLAINTEXT": clients}
    files: dict[str, str] = {}
    settings = BROKER_DEFAULTS | {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": f"{folder}/data",
        "num.partitions": str(partitions),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CLIENTS:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"
        ),
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
    elif advertised:
        listeners = {"CLIENTS": clients, "PLAINTEXT": internal}
    settings["advertised.listeners"] = _addresses(listeners | ({"CLIENTS": advertised} if advertised else {}))
    settings["listeners"] = _addresses(listeners | {"CONTROLLER": controller})
    return _lines({**settings, **(member.settings if member is not None else {}), **more}), files


def _addresses(listeners: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())


def _lines(settings: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())
