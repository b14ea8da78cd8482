"""The classifier of an installation: as configured, or as a person put it in force while everything runs.

What is in force by a person's word lies in the topic ``classifier`` (compacted, one key): the file's bytes, with who, why and
when as headers; an empty value means "as configured" again. Every router reads it before it decides, and swaps within the
two seconds that any order takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from router.config import Config
from router.contract.codec import to_rfc3339
from router.contract.errors import ConfigError
from router.core.artefact import Artefact, ArtefactError
from router.kafka.client import Client
from router.kafka.put import Said, put
from router.kafka.scan import scan

#: The one key of the topic.
KEY = b"current"
#: In place of a file's name: the one that is shipped, and none.
BUILT_IN, NONE = "builtin", "none"
#: The one of the demonstration, which knows its two simulated models.
DEMO = "demo"


@dataclass(frozen=True, slots=True)
class InForce:
    """By a person's word. ``artefact`` is ``None`` where the configured one was put back."""

    artefact: Artefact | None
    by: str
    reason: str
    at: str


def load(file: Path) -> Artefact:
    """Raises ``ConfigError`` with the file's name where it is no classifier."""
    try:
        return Artefact.from_bytes(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except ArtefactError as error:
        raise ConfigError(f"{file}: {error}") from None


def built_in() -> Artefact:
    """The one that is shipped: task classes, learned from texts that were written for this project."""
    return _of_package("classifier.npz")


def _of_package(name: str) -> Artefact:
    return Artefact.from_bytes((files("router") / "data" / name).read_bytes())


def configured(config: Config) -> Artefact | None:
    """``classify.model``; where it is not set, the one that is shipped, unless rules say the classes.

    Raises:
        ConfigError: its file cannot be read.
    """
    name = config.classify.model or (NONE if config.classify.rules else BUILT_IN)
    if name == NONE:
        return None
    if name in (BUILT_IN, DEMO):
        return built_in() if name == BUILT_IN else _of_package("demo_classifier.npz")
    try:
        return load(Path(name))
    except ConfigError as error:
        raise ConfigError(f"classify.model: {error}") from None


def misfits(config: Config, artefact: Artefact) -> list[str]:
    """What pools and classifier do not have in common, one line each; of none where it knows no models at all."""
    known = artefact.heads.models
    if not known:
        return []
    found = []
    for name, pool in config.pools.items():
        unknown = [model for model in pool.models if model not in known]
        if unknown:
            why = "no p_ok for them"
            if {pool.baseline, pool.models[0]} & set(unknown):
                why += "; bands of this pool go by prompt tokens"
            found.append(f"pools.{name}: the classifier does not know {', '.join(unknown)}: {why}")
    used = {model for pool in config.pools.values() for model in pool.models}
    if not used & set(known):
        found.append(f"classify.model: was fitted to {', '.join(known)}: no pool has any of them")
    return found


async def send(client: Client, topic: str, artefact: Artefact | None, *, by: str, reason: str, now_ms: int) -> None:
    """Put a classifier in force, or the configured one again; returns when the cluster has it.

    Raises:
        Unavailable: it has not.
    """
    headers = (("by", by.encode()), ("reason", reason.encode()), ("at", to_rfc3339(now_ms).encode()))
    await put(client, topic, [Said(KEY, b"" if artefact is None else artefact.to_bytes(), headers)])


async def in_force(client: Client, topic: str) -> InForce | None:
    """What a person said last; ``None`` where nobody did, or where it is no classifier: routers pass over that, too."""
    found = None
    async for record in scan(client, [topic]):
        if record.key != KEY or record.value is None:
            continue
        said = {name: value.decode("utf-8", "replace") for name, value in record.headers}
        try:
            artefact = Artefact.from_bytes(record.value) if record.value else None
        except ArtefactError:
            continue
        found = InForce(artefact, said.get("by", "?"), said.get("reason", "?"), said.get("at", "?"))
    return found
