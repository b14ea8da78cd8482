"""The hook that takes out of a text what reviewers shall not see: ``module:function`` of the one who runs pointsman.

It gets a text and returns one. Whatever goes wrong in it, the text is not shown.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable

from router.contract.errors import ConfigError

log = logging.getLogger(__name__)

#: In the place of a text that could not be redacted.
WITHHELD = "[withheld: it could not be redacted]"

Redact = Callable[[str], str]


def redactor(named: str | None) -> Redact:
    """The hook, safe to call; without one a text stays as it is.

    Raises:
        ConfigError: there is no such function.
    """
    if named is None:
        return lambda text: text
    module, _, function = named.partition(":")
    try:
        hook = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"reviews.redact: {named}: {error}") from None
    if not callable(hook):
        raise ConfigError(f"reviews.redact: {named}: is no function")

    def redact(text: str) -> str:
        try:
            found = hook(text)
        except Exception:  # a stranger's code: whatever it raises, nothing of the text may get out
            log.exception("reviews.redact: %s failed", named)
            return WITHHELD
        return found if isinstance(found, str) else WITHHELD

    return redact
