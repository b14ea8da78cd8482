"""Routing policies: one file each, one contract (``contract.py``), this registry."""

from __future__ import annotations

from typing import Any

from router.core.bandit.contract import Arms, Observation, Policy, observation_of
from router.core.bandit.fixed import Fixed
from router.core.bandit.squarecb import SquareCB
from router.core.bandit.thompson import Thompson

__all__ = ["POLICIES", "Arms", "Fixed", "Observation", "Policy", "SquareCB", "Thompson", "observation_of"]

#: Name in the configuration -> policy. ``observe`` learns like ``thompson``; that it moves nothing is ``decide``'s matter.
POLICIES: dict[str, Policy[Any]] = {
    "fixed": Fixed(),
    "thompson": Thompson(),
    "squarecb": SquareCB(),
    "observe": Thompson(),
}
