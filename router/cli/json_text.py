"""What ``--json`` prints: one document in ASCII alone, so that nothing that came from outside steers a terminal."""

from __future__ import annotations

import json
from typing import Any


def json_text(value: Any, *, indent: bool = True) -> str:
    r"""JSON of plain values, dataclasses, dates and numpy numbers; every character beyond printable ASCII is an escape.

    >>> json_text({"name": "a\u009bé"}, indent=False)
    '{"name": "a\\u009b\\u00e9"}'
    """
    import orjson

    plain = orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY))
    return json.dumps(plain, indent=2 if indent else None).replace("\x7f", "\\u007f")
