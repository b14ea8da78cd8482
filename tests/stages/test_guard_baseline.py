"""A baseline that gets worse is told of, with its name and a proposal; nothing is ordered."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from router.contract.codec import encode, to_rfc3339
from router.core.guard.unit import HOUR_MS
from tests.stages.test_guard import REWARD, T0, Installation


class Held(Installation):
    """People look at answers of the baseline only."""

    def reviews(self, hours: int, bad: float) -> None:
        for _ in range(hours):
            self.hour += 1
            self.log.clock.now_ms = at_ms = T0 + self.hour * HOUR_MS
            for stratum in ("chat/easy", "math/hard"):
                for _ in range(3):
                    value = 0.0 if self.random.random() < bad else 1.0
                    said = replace(REWARD, stratum=stratum, cohort="control", reward=value, at=to_rfc3339(at_ms))
                    self.log.produce("llm.rewards", f"auto/{stratum}".encode(), encode(said))
            self.log.run()


@pytest.fixture
def worse() -> Held:
    """Nine days as ever, then three on which four in ten answers are bad."""
    one = Held(auto_rollback=True)
    one.reviews(216, 0.05)
    assert one.alerts() == []
    one.reviews(72, 0.4)
    return one


def test_it_names_the_model_and_proposes_and_gives_nothing_back(worse: Held) -> None:
    alert = worse.alerts()[0]
    assert (alert.state, alert.severity, alert.signal) == ("open", "watch", "baseline_past")
    assert (alert.pool, alert.stratum, alert.model) == ("auto", "slice/all", "large")
    assert alert.effect.low < 0.05 < alert.effect.value < alert.effect.high
    assert alert.reference.kind == "the baseline's own past"
    assert alert.reference.n > 1000
    assert (alert.action.taken, alert.money) == (None, None)
    assert alert.action.command.startswith("pointsman pin pool:auto ")
    assert "rollback" not in f"{alert.action}"
    assert worse.orders() == []
    assert len({one.id for one in worse.alerts()}) == 1
    assert len(worse.alerts()) <= 3, "told again once a day"


def test_it_is_the_same_after_a_restart_and_a_person_closes_it(worse: Held) -> None:
    worse.restart()
    worse.reviews(24, 0.4)
    told = worse.alerts()
    assert len({one.id for one in told}) == 1
    for act in ("acknowledge", "close"):
        said = orjson.dumps({"id": told[0].id, "act": act})
        worse.log.produce("llm.alert.acts", told[0].id.encode(), said)
        worse.log.advance(200)
    worse.reviews(48, 0.4)
    assert [one.state for one in worse.alerts()[-2:]] == ["acknowledged", "closed"]
