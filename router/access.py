"""Who needs what of Kafka: the ACLs of a user that runs one part of an installation and nothing else.

Told by the parts themselves: a stage's sources, outputs and resources are what it runs on, so what is granted and what is
used cannot drift apart. Those of users and people are what the registry of topics says of them.

| part | who |
|---|---|
| a stage | ``pointsman run STAGE``; in a process with several, one user has what all of them need |
| ``worker`` | ``pointsman worker``: one model, or all that the configuration has |
| ``web`` | ``pointsman run web``: looks at everything, writes what reviewers say |
| ``users`` | services that ask: requests and feedback in, results out; their groups begin with ``PREFIX-users-`` |
| ``people`` | whoever overrules the machine by ``pointsman pin`` and its like: as powerful as the machine itself |

Making topics (``pointsman topics create``) is an administrator's: Create on topics named ``PREFIX.``, Describe and DescribeConfigs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from router import stages
from router.config import Config
from router.contract.errors import ConfigError
from router.contract.topics import TOPICS, Names
from router.core.keyring import MIN_KEY_BYTES, Keyring
from router.kafka.acls import Acl, acls_of, acls_of_stage
from router.kafka.client import Client
from router.stages.context import Context
from router.web import lanes, observer, review_log
from router.work.worker import check_served, topics_of

WORKER, WEB, USERS, PEOPLE = "worker", "web", "users", "people"
PARTS = (*stages.NAMES, WORKER, WEB, USERS, PEOPLE)


def needed(config: Config, part: str, models: Sequence[str] = ()) -> set[Acl]:
    """What one of ``PARTS`` needs; ``models``: of a worker, all that are served here when none is named.

    Raises:
        ConfigError: there is no such part or model.
    """
    if part not in PARTS:
        raise ConfigError(f"{part}: there is no such part; there are {', '.join(PARTS)}")
    names = Names(config.kafka.prefix)
    if part == WORKER:
        return _of_workers(config, names, models)
    if part == WEB:
        return _of_web(config, names)
    if part in {USERS, PEOPLE}:
        return _of_registry(config, names, part)
    # Stages are values: to ask one what it reads takes neither a broker nor a secret.
    nobody = Keyring((bytes(MIN_KEY_BYTES),))
    context = Context(config=config, client=Client(""), keyring=nobody, names=names, partitions=1)
    return set().union(*(acls_of_stage(stage) for stage in stages.build(part, context)))


def _of_workers(config: Config, names: Names, models: Sequence[str]) -> set[Acl]:
    found: set[Acl] = set()
    for model in models or [name for name, one in config.models.items() if one.provider != "external"]:
        check_served(config, model)
        topics = topics_of(names, model)
        found |= acls_of(group=topics.group, reads=topics.reads, writes=topics.writes)
    return found


def _of_web(config: Config, names: Names) -> set[Acl]:
    works = [names.work(model, lane) for model in config.models for lane in ("interactive", "batch")]
    looked_at = {*observer.WHOLE, *observer.RECENT, *lanes.READER, *review_log.TOPICS}
    found = acls_of(
        group=None, reads=[*map(names.of, looked_at), *works, *names.bodies()], writes=[names.of("feedback")]
    )
    found.add(Acl("group", f"{names.prefix}-", "Describe", prefixed=True))
    if config.guard.webhook_url or config.guard.alertmanager_url:
        found.add(Acl("group", names.group("notify"), "Read"))
    return found


def _of_registry(config: Config, names: Names, part: str) -> set[Acl]:
    every = list(names.all(list(config.models)))
    reads = every if part == PEOPLE else [names.of(topic.name) for topic in TOPICS if part in words(topic.reads)]
    found = acls_of(
        group=None, reads=reads, writes=[names.of(topic.name) for topic in TOPICS if part in words(topic.writes)]
    )
    if part == PEOPLE:
        return found | {Acl("group", f"{names.prefix}-", "Describe", prefixed=True)}
    return found | {Acl("group", f"{names.prefix}-{part}-", "Read", prefixed=True)}


words: Callable[[str], list[str]] = re.compile(r"[a-z]+").findall
