"""``python -m router.config`` writes ``docs/config.md``."""

from pathlib import Path

from router.config.show import reference_markdown

Path("docs/config.md").write_text(reference_markdown(), encoding="utf-8")
