"""Which of several models that are equally good is asked, by how long their queues are.

Models that the policy gives the same weight share it in proportion to ``1 / (RELAXED_MS + wait)``: the one that waits less gets
more, none gets all. All routers see the same wait, and see it late; were each to send everything to the shortest queue, the
queues would be long in turn. Near equilibrium the queue of a model that gets ``s`` of ``l`` requests a second and
serves ``c = s l`` follows ``dW/dt = -k W(t - d)`` with ``k = (1 - s) / (RELAXED_MS + wait)``; that is stable for ``k d < pi/2`` (Hayes, "Roots of the
transcendental equation associated with a certain difference-differential equation", 1950), and without overshoot below ``1/e``.
The wait is known some 2 s late (told, published, and taken into a snapshot at most once a second each), so 4 s keep ``k d`` below a half.

A model without a queue has a wait of 0, and where none has one nothing changes: weights are then those of the policy to the last bit.
"""

from __future__ import annotations

from typing import Final

from router.core.snapshot import Snapshot

RELAXED_MS: Final = 4_000


def by_load(weights: dict[str, float], snapshot: Snapshot) -> dict[str, float]:
    """``weights``, shared anew among those that are the same and above 0; sums and order stay."""
    waits = {model: health.wait_ms for model in weights if (health := snapshot.health.get(model)) and health.wait_ms}
    if not waits:
        return weights
    shared = dict(weights)
    for weight in {weights[model] for model in waits if weights[model] > 0.0}:
        equals = [model for model, other in weights.items() if other == weight]
        speeds = [1.0 / (RELAXED_MS + waits.get(model, 0)) for model in equals]
        each = weight * len(equals) / sum(speeds)
        shared |= {model: each * speed for model, speed in zip(equals, speeds, strict=True)}
    return shared
