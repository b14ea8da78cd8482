"""What a user must be allowed to do in Kafka to run a stage or a worker, and no more: told by the stage itself.

Read and Write bring Describe with them, and who may write to a topic may write to it in transactions. A transactional id is
granted by its prefix, since it ends with the number of a partition; a group and a topic by their whole name.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from router.kafka.stage import Stage

Kind = Literal["topic", "group", "transactional-id"]
Operation = Literal["Create", "Describe", "DescribeConfigs", "Read", "Write"]

#: Its changelog a stage makes itself, and reads it again when it starts.
OF_A_CHANGELOG: tuple[Operation, ...] = ("Create", "DescribeConfigs", "Read", "Write")


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """Leave for one operation. ``prefixed``: on every resource of the kind whose name begins with ``name``."""

    kind: Kind
    name: str
    operation: Operation
    prefixed: bool = False


def acls_of_stage(stage: Stage) -> set[Acl]:
    """Sources and what resources follow are read, outputs written; one group, one table."""
    found = acls_of(
        group=stage.name,
        reads=[*stage.sources, *(topic for resource in stage.resources for topic in resource.topics)],
        writes=stage.outputs,
    )
    if stage.rows is not None:
        found |= {Acl("topic", changelog_of(stage.name), operation) for operation in OF_A_CHANGELOG}
    return found


def acls_of(*, group: str | None, reads: Iterable[str], writes: Iterable[str]) -> set[Acl]:
    """Of a program that reads and writes topics, in transactions of its ``group`` if it has one."""
    found = {Acl("topic", topic, "Read") for topic in reads} | {Acl("topic", topic, "Write") for topic in writes}
    if group is not None:
        found |= {Acl("group", group, "Read"), Acl("transactional-id", f"{group}-", "Write", prefixed=True)}
    return found


def changelog_of(stage: str) -> str:
    """The topic of a stage's table, as Faust calls it."""
    return f"{stage}-rows-changelog"


def commands(user: str, acls: Iterable[Acl], bootstrap: str) -> list[str]:
    """Lines for a shell: ``kafka-acls.sh`` of Kafka, one for each set of operations that several resources share."""
    operations: dict[tuple[Kind, str, bool], list[Operation]] = {}
    for acl in sorted(acls):
        operations.setdefault((acl.kind, acl.name, acl.prefixed), []).append(acl.operation)
    together: dict[tuple[Kind, bool, tuple[Operation, ...]], list[str]] = {}
    for (kind, name, prefixed), asked in operations.items():
        together.setdefault((kind, prefixed, tuple(asked)), []).append(name)
    lines = []
    for (kind, prefixed, asked_of), names in sorted(together.items()):
        words = ["kafka-acls.sh", "--bootstrap-server", bootstrap, "--add", "--allow-principal", f"User:{user}"]
        words += [word for operation in asked_of for word in ("--operation", operation)]
        words += [word for name in names for word in (f"--{kind}", name)]
        words += ["--resource-pattern-type", "prefixed"] if prefixed else []
        lines.append(shlex.join(words))
    return lines
