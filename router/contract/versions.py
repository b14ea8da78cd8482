"""Which records a release can read: the Kafka header ``schema`` carries a record's version; absent, null or empty means 1.

A version is ``MAJOR`` or ``MAJOR.MINOR``. Within a major one fields are only added, and readers pass over those that they do not know; so any
minor one is read. A higher major one changes what a field means: it is refused, for who guesses counts wrongly and says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from router.contract.errors import BadRecord, RejectCode

HEADER = "schema"
MAJOR = 1

_VERSION = re.compile(rb"([0-9]{1,9})(\.[0-9]{1,9})?", re.ASCII)


def refusal(headers: Iterable[tuple[str, bytes | None]]) -> BadRecord | None:
    """What to say of a record that this release does not read; ``None``: it does. The last of several headers counts."""
    said = None
    for name, value in headers:
        if name == HEADER:
            said = value
    if not said:
        return None
    version = _VERSION.fullmatch(said)
    if version is None or int(version[1]) < 1:
        shown = said[:40].decode("ascii", "backslashreplace")
        return BadRecord(f"header schema: {shown!r} is no version", code=RejectCode.UNSUPPORTED_SCHEMA)
    if int(version[1]) > MAJOR:
        return BadRecord(
            f"header schema: version {version[0].decode()} of the records; this release reads {MAJOR}",
            code=RejectCode.UNSUPPORTED_SCHEMA,
        )
    return None
