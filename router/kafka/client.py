"""Where the broker is and how to log in: what every Kafka client of this package is made from."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]

#: aiokafka's background routine of a consumer is told of all that is new; looking by itself, too, it would wake the
#: process five times a second, for every consumer there is.
CONSUMER_TIMEOUT_MS = 1_000

#: The largest record of any topic is 4 MiB (answers, dead letters); what is around it comes on top.
MAX_REQUEST_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Plain values; files are PEM. ``cafile`` ``None``: the system's authorities."""

    protocol: Protocol = "SASL_SSL"
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        return _context(self.cafile, self.certfile, self.keyfile) if self.protocol.endswith("SSL") else None


def uncompressed(topic: str) -> Codec:  # noqa: ARG001 - one of many such functions
    """As the topics of benchmarks and tests are, so that their figures compare."""
    return "none"


@dataclass(frozen=True, slots=True)
class Client:
    """``bootstrap``: ``host:port`` of one or several brokers, by commas. ``codec``: of what is written to a topic."""

    bootstrap: str
    security: Security | None = None
    codec: Callable[[str], Codec] = uncompressed

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client."""
        found: dict[str, Any] = {"bootstrap_servers": self.bootstrap.split(",")}
        if self.security is None:
            return found
        found |= {"security_protocol": self.security.protocol, "ssl_context": self.security.ssl_context}
        if self.security.protocol.startswith("SASL"):
            found |= {
                "sasl_mechanism": self.security.sasl_mechanism,
                "sasl_plain_username": self.security.username,
                "sasl_plain_password": self.security.password,
            }
        return found

    def producer(self, topic: str, **settings: Any) -> AIOKafkaProducer:
        """One that writes to ``topic`` as this client is told to; not started. ``settings``: further ones of aiokafka's."""
        codec = self.codec(topic)
        return AIOKafkaProducer(compression_type=None if codec == "none" else codec, **self.aiokafka(), **settings)

    def consumer(self, *topics: str, **settings: Any) -> AIOKafkaConsumer:
        """One that reads what is committed, from the beginning, and commits nothing by itself; not started.

        ``settings``: further ones of aiokafka's, or other values.
        """
        usual = {
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "consumer_timeout_ms": CONSUMER_TIMEOUT_MS,
        }
        return AIOKafkaConsumer(*topics, **(usual | self.aiokafka() | settings))


@functools.cache
def _context(cafile: str | None, certfile: str | None, keyfile: str | None) -> ssl.SSLContext:
    """One context for all clients of the process: making one reads the files."""
    context = ssl.create_default_context(cafile=cafile)
    if certfile is not None:
        context.load_cert_chain(certfile, keyfile)
    return context
