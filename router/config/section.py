"""What every table of the settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


def switch(value: object) -> object:
    """A table that ``true`` switches on as it is, and ``false`` off."""
    return {} if value is True else None if value is False else value
