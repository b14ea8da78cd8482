"""Quality by slice: mean feedback of each model beside its pool's baseline in the same stratum, kind by kind. Pure.

Kinds are never mixed: thumbs and reviews lie on different scales, and models get them in different shares. A difference
here is a reading, no test: it knows neither chance nor who answers. That is the guard's work: ``alerts``, and ``sight`` for what it could not notice.
"""

from __future__ import annotations

from typing import Any

from router.web.sums import Opinion, Slice, Sums
from router.web.view import View

NONE = "none"


def slices(view: View, final: dict[Slice, Sums], still_open: dict[Slice, Sums]) -> list[dict[str, Any]]:
    """One row a pool, stratum, kind and model; where nobody gave feedback one with ``kind`` null and ``n`` 0.

    ``mean`` 0..1. ``reference`` is the baseline's row of the same kind, ``None`` where it has no feedback;
    ``difference`` is ``mean`` less the reference's, 0.0 for the baseline itself.
    """
    found = []
    for at in sorted({*final, *still_open}):
        pool, stratum, model = at
        if NONE in at:
            continue
        baseline = view.setup.baselines.get(pool)
        theirs = _opinions((pool, stratum, baseline), final, still_open) if baseline else {}
        mine = _opinions(at, final, still_open)
        about = {"pool": pool, "stratum": stratum, "model": model, "is_baseline": model == baseline}
        found += [about | _row(kind, mine[kind], baseline, theirs.get(kind)) for kind in sorted(mine) if mine[kind].n]
        if not any(opinion.n for opinion in mine.values()):
            found.append(about | _row(None, Opinion(), baseline, None))
    return found


def _row(kind: str | None, mine: Opinion, baseline: str | None, theirs: Opinion | None) -> dict[str, Any]:
    reference, difference = None, None
    if theirs is not None and theirs.mean is not None:
        reference = {"model": baseline, "n": theirs.n, "mean": theirs.mean}
        difference = None if mine.mean is None else mine.mean - theirs.mean
    return {"kind": kind, "n": mine.n, "mean": mine.mean, "reference": reference, "difference": difference}


def _opinions(at: Slice, *parts: dict[Slice, Sums]) -> dict[str, Opinion]:
    whole = Sums()
    for part in parts:
        if at in part:
            whole.merge(part[at])
    return whole.feedback
