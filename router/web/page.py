"""A page of one file that lies beside this one: it loads nothing, runs nothing but its own script, and is framed by nobody.

The browser is told so by the hashes of its ``<script>`` and ``<style>``. Whatever of a text got into the page as HTML would not run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from aiohttp import web

#: Of answers that only the page itself shall read.
PRIVATE = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Page:
    """``name``: of the file."""

    def __init__(self, name: str) -> None:
        text = Path(__file__).with_name(name).read_text(encoding="utf-8")
        policy = {
            "default-src": "'none'",
            "script-src": _hashes("script", text),
            "style-src": _hashes("style", text),
            "connect-src": "'self'",
            "img-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        self._body = text.encode()
        self._headers = PRIVATE | {
            "Content-Security-Policy": "; ".join(f"{what} {source}" for what, source in policy.items()),
            "Cross-Origin-Opener-Policy": "same-origin",
        }

    async def serve(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._body, content_type="text/html", charset="utf-8", headers=self._headers)


def _hashes(tag: str, text: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found]
    return " ".join(f"'sha256-{one}'" for one in digests) or "'none'"
