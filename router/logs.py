r"""Log lines as the processes write them. A record is one line but for a traceback, and nothing in it steers a terminal or looks like another line.

What is logged may quote names and errors that come from outside: control characters, line ends, and what turns text around are written as
escapes (``\x1b``, ``\u202e``).
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

FORMAT = "%(asctime)s %(levelname).1s %(name)s  %(message)s"
#: A message may be this long: a text that was quoted whole would fill the log.
MOST_CHARACTERS = 8_000


def escaped(text: str) -> str:
    r"""With whatever is not printable as an escape.

    >>> escaped("a\x1b[2J\nb\u202e")
    'a\\x1b[2J\\nb\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


class Formatter(logging.Formatter):
    """``FORMAT``; a traceback's own line ends stay, so that it can be read, each of its lines indented."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without a traceback."""
        message = record.message
        if len(message) > MOST_CHARACTERS:
            record.message = f"{message[:MOST_CHARACTERS]}... ({len(message)} characters)"
        return escaped(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Tracebacks end with the message of the exception, which may quote anything."""
        return "\n".join(f"  {escaped(line[:MOST_CHARACTERS])}" for line in super().formatException(ei).split("\n"))  # type: ignore[arg-type]


def begin(stream: TextIO | None = None) -> None:
    """Send the process's log to ``stream``, by default standard error."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
