"""Paths of OpenAI's API that a request may name: what its body and its answer look like hangs on them."""

from __future__ import annotations

CHAT = "/v1/chat/completions"
COMPLETIONS = frozenset({CHAT, "/v1/completions"})
EMBEDDINGS = frozenset({"/v1/embeddings"})
