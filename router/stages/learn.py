"""Turns rewards into weights: one posterior per pool and stratum, all of whose rewards meet in one partition.

- What may move a posterior is said in ``core/reward``; how, in ``core/bandit``. A reward of a pool or model that is not
  configured is ignored and counted in the log; one that is malformed is a dead letter.
- Opinions of one conversation count together for two at most (``core/bandit/clusters``), those of one tenant for a set share of a stratum's
  evidence on a model (``core/bandit/voices``; ``feedback.max_tenant_share``).
- Weights of a stratum are published at most once a second, and only when they changed: by 0.001, or the evidence behind
  them in its first two digits. Evidence fades with time, so each stratum is looked at every ten minutes without news.
- ``policy_version`` is ``<policy>:<n>``, n counting the published weights of the stratum.
- An order ``freeze`` keeps what is published as it is; what was learned meanwhile is published when it is released.
- Pools with policy ``fixed`` have nothing to learn: nothing is kept, nothing published, but for the threshold of their cascade.
- Under a cascade the pool's cheapest model is an arm of another name: what was observed of the model alone may speak for it, for an
  answer that is checked is no worse, never against it; and never the other way round. Published it has the model's name.

Table: key ``pool/stratum`` -> JSON ``{"version", "published"}``; ``VOICE`` + a tenant's voice + ``/pool/stratum`` -> the policy's state, of what it
has said; labels of cascades: ``learn_cascade``; opinions of conversations: ``learn_sessions``.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from router.config import Config
from router.contract.codec import decode, decode_control, encode, from_rfc3339, to_rfc3339
from router.contract.errors import BadRecord, RejectCode
from router.contract.orders import in_force, scopes_of
from router.contract.records import Control, Reward, Weights
from router.core.bandit import POLICIES, Arms, Observation, Policy, SquareCB, observation_of
from router.core.bandit.clusters import share_of
from router.core.bandit.voices import voice_of
from router.core.labels import Labels, label_of, load
from router.core.reward import is_evidence, reward_key
from router.core.risk import Label
from router.kafka.follow import Follower
from router.kafka.stage import Stage
from router.kafka.table import DictRows, Rows
from router.kafka.transport import Batch
from router.kafka.unit import UnitLike
from router.stages.context import GATHER_S, PATIENT_LINGER_S, Context
from router.stages.dead_letter import dead_letter, give_up
from router.stages.learn_cascade import PREFIX, Book, Cascade, cascade_of
from router.stages.learn_sessions import PREFIX as SESSION
from router.stages.learn_sessions import Sessions

log = logging.getLogger(__name__)

NAME = "learn"
VOICE = b"\0voice/"
PUBLISH_EVERY_MS = 1_000
LOOK_EVERY_MS = 600_000
#: Weights take some milliseconds of quadrature; ticks come often.
STRATA_A_TICK = 1
_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class Learner:
    """How a configured pool learns; ``most``: share of the evidence on a model that one tenant may have, 0..1."""

    policy: Policy[Any]
    arms: Arms
    cascade: Cascade | None = None
    most: float = 1.0

    @property
    def under_cascade(self) -> bool:
        """Whether the cheapest model's answers are checked."""
        return self.cascade is not None and self.cascade.asked

    def has(self, reward: Reward) -> bool:
        """Whether the reward's model, or arm, is one of the pool as it is now."""
        if reward.arm is not None:
            return self.cascade is not None and self.under_cascade and reward.arm == self.cascade.arm
        return reward.model in self.arms.models

    def outlook(
        self, voices: Sequence[Any], now_ms: int
    ) -> tuple[dict[str, float], dict[str, float], dict[str, Any] | None, dict[str, float] | None]:
        """Weights, evidence, regression, and the share of what was said that does not count; by the models' names."""
        policy, arms, names = self.policy, self.arms, dict[str, str]()
        state, cut = policy.pooled(voices, self.most, now_ms)
        if self.cascade is not None and self.under_cascade:
            cheap, arm = self.cascade.cheap, self.cascade.arm
            names = {arm: cheap}
            weights = renamed(dict(arms.weights), {cheap: arm})
            arms = replace(arms, models=tuple(arm if one == cheap else one for one in arms.models), weights=weights)
            # An answer that is checked is no worse than one that is not: what speaks against the model alone does not count.
            both = policy.joined(state, cheap, arm)
            alone, found = policy.weights(state, arms, now_ms), policy.weights(both, arms, now_ms)
            state, found = (both, found) if found[arm] > alone[arm] else (state, alone)
        else:
            found = policy.weights(state, arms, now_ms)
        known = renamed(policy.evidence(state, now_ms), names)
        regression = _regression(policy, state, arms, now_ms)
        if regression is not None:
            regression |= {part: renamed(regression[part], names) for part in ("theta", "n")}
        evidence = {model: float(f"{known.get(model, 0.0):.2g}") for model in self.arms.models}
        bounded = {model: float(f"{share:.2g}") for model, share in renamed(cut, names).items()}
        return rounded(renamed(found, names), arms.baseline), evidence, regression, bounded or None


@dataclass(slots=True)
class Posterior:
    """A stratum: the policy's state by voice, and what was last published (weights, evidence, ...) as version ``version``."""

    voices: dict[int, Any] = field(default_factory=dict)
    version: int = 0
    published: list[Any] | None = None
    looked_ms: int = 0
    due_ms: int = 0


@dataclass(slots=True)
class Strata:
    """A lane's strata by key, and a heap of (when to look, key); an entry that is not a stratum's ``due_ms`` is stale."""

    posteriors: dict[str, Posterior] = field(default_factory=dict)
    books: dict[str, Book] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=lambda: Sessions(()))
    due: list[tuple[int, str]] = field(default_factory=list)

    def plan(self, key: str, due_ms: int) -> None:
        """Look at a stratum at ``due_ms``, instead of when it was planned before."""
        self.posteriors[key].due_ms = due_ms
        heapq.heappush(self.due, (due_ms, key))


class Learn:
    """The stage's handlers for one configuration."""

    def __init__(self, context: Context) -> None:
        names = context.names
        self._name = names.group(NAME)
        self._rewards, self._weights, self._dead = names.of("rewards"), names.of("weights"), names.of("dead-letter")
        self._learners = learners(context.config)
        self._ignored: Counter[str] = Counter()
        self._frozen: dict[str, Control] = {}
        self._follower = Follower(context.client, [names.of("control")], self._heed, confirms=False)

    def stage(self) -> Stage:
        return Stage(
            name=self._name,
            sources=(self._rewards,),
            outputs=frozenset({self._weights, self._dead}),
            handle=self.handle,
            tick=self.tick,
            index=self.index,
            rows=DictRows,
            resources=(self._follower,),
            linger_s=PATIENT_LINGER_S,
            gather_s=GATHER_S,
            culprit=give_up(NAME, self._dead),
        )

    def index(self, rows: Rows) -> Strata:
        """All strata whose pool still learns, each to be looked at at once: the configuration may be another."""
        strata = Strata()
        for key, value in rows.items():
            if key.startswith(SESSION):
                continue
            if key.startswith(PREFIX):
                self._open(key.removeprefix(PREFIX).decode(), load(orjson.loads(value)), strata)
                continue
            if key.startswith(VOICE):
                voice, _, name = key.removeprefix(VOICE).decode().partition("/")
            else:
                voice, name = "", key.decode()
            learner = self._learners.get(name.partition("/")[0])
            if learner is None:
                continue
            posterior, row = strata.posteriors.setdefault(name, Posterior()), orjson.loads(value)
            if voice:
                posterior.voices[int(voice)] = learner.policy.load(row)
            else:
                posterior.version, posterior.published = row["version"], row["published"]
        for name in strata.posteriors.keys() | strata.books.keys():
            self._posterior(name, strata)
            strata.plan(name, 0)
        strata.sessions = Sessions((key, value) for key, value in rows.items() if key.startswith(SESSION))
        return strata

    def handle(self, batch: Batch, unit: UnitLike) -> None:
        news: defaultdict[tuple[str, int], list[Observation]] = defaultdict(list)
        labels: defaultdict[str, list[Label]] = defaultdict(list)
        for record in batch.records:
            if record.value is None:
                continue
            try:
                reward = decode(Reward, record.value)
                at_ms = _time(reward.at)
            except BadRecord as error:
                error.code = RejectCode.INVALID_FEEDBACK
                letter = dead_letter(record, error, stage=NAME, at_ms=unit.now_ms)
                unit.emit(self._dead, *letter)
                continue
            self._label(reward, labels)
            seen = self._observation(reward, at_ms)
            if isinstance(seen, str):
                self._ignore(seen)
            else:
                key = reward_key(reward.pool, reward.stratum)
                news[key, voice_of(reward.tenant)].append(self._in_session(key, seen, reward.session, unit))
        for key, found in labels.items():
            self._calibrate(key, found, unit)
        for (key, voice), observations in news.items():
            self._learn(key, voice, observations, unit)

    def tick(self, now_ms: int, unit: UnitLike) -> None:
        strata: Strata = unit.index
        strata.sessions.forget(unit)
        looked = 0
        while strata.due and strata.due[0][0] <= now_ms and looked < STRATA_A_TICK:
            due_ms, key = heapq.heappop(strata.due)
            posterior = strata.posteriors[key]
            if posterior.due_ms != due_ms:
                continue
            if self._is_frozen(key, now_ms):
                strata.plan(key, now_ms + PUBLISH_EVERY_MS)
            else:
                self._look(key, posterior, now_ms, unit)
                posterior.looked_ms = now_ms
                strata.plan(key, now_ms + LOOK_EVERY_MS)
                looked += 1

    def _heed(self, record: Any) -> None:
        """A record of the control topic, of which only ``freeze`` concerns us."""
        try:
            order = decode_control(record.value) if record.value is not None else None
        except BadRecord:
            return
        if order is not None and order.action == "freeze":
            self._frozen.pop(order.scope, None)
            if order.active:
                self._frozen[order.scope] = order

    def _is_frozen(self, key: str, now_ms: int) -> bool:
        """Whether an order keeps a stratum's weights as they are published. What is said of answers counts all the same, for later."""
        if not self._frozen:
            return False
        pool, _, stratum = key.partition("/")
        orders = [order for scope in scopes_of(pool, stratum) if (order := self._frozen.get(scope)) is not None]
        return any(in_force(order, now_ms) for order in orders)

    def _observation(self, reward: Reward, at_ms: int) -> Observation | str:
        """What the pool may learn from a reward, or why nothing."""
        learner = self._learners.get(reward.pool)
        if learner is None:
            return f"pool {reward.pool} does not learn"
        if not learner.has(reward):
            return f"pool {reward.pool} has no model {reward.arm or reward.model}"
        if not is_evidence(reward):
            return "cohort, or a model that was not chosen first"
        return observation_of(reward, at_ms)

    @staticmethod
    def _in_session(key: str, seen: Observation, session: str | None, unit: UnitLike) -> Observation:
        """With the weight that it has beside earlier ones of its conversation."""
        if session is None:
            return seen
        number = unit.index.sessions.number(key, seen, session, unit)
        return seen if number == 1 else replace(seen, weight=seen.weight * share_of(number))

    def _label(self, reward: Reward, labels: dict[str, list[Label]]) -> None:
        """Note the label in a reward, if its pool has a cascade to calibrate."""
        learner = self._learners.get(reward.pool)
        if learner is not None and learner.cascade is not None:
            label = label_of(reward, learner.cascade.scale)
            if label is not None:
                labels[reward_key(reward.pool, reward.stratum)].append(label)

    def _calibrate(self, key: str, news: list[Label], unit: UnitLike) -> None:
        strata: Strata = unit.index
        cascade = self._learners[key.partition("/")[0]].cascade
        assert cascade is not None
        book = strata.books.setdefault(key, Book(Labels(cascade.scale)))
        book.add(news, cascade, unit.now_ms)
        unit.put(PREFIX + key.encode(), orjson.dumps(book.labels.dump()))
        strata.plan(key, self._posterior(key, strata).looked_ms + PUBLISH_EVERY_MS)

    def _open(self, key: str, labels: Labels, strata: Strata) -> None:
        """The labels of a stratum, if they are of the cascade that its pool has now."""
        learner = self._learners.get(key.partition("/")[0])
        if learner is not None and learner.cascade is not None and labels.scale == learner.cascade.scale:
            strata.books[key] = Book(labels)

    @staticmethod
    def _posterior(key: str, strata: Strata) -> Posterior:
        return strata.posteriors.setdefault(key, Posterior())

    def _learn(self, key: str, voice: int, observations: list[Observation], unit: UnitLike) -> None:
        strata: Strata = unit.index
        policy = self._learners[key.partition("/")[0]].policy
        posterior = self._posterior(key, strata)
        state = posterior.voices[voice] if voice in posterior.voices else policy.empty()
        state = posterior.voices[voice] = policy.update(state, observations, unit.now_ms)
        unit.put(VOICE + f"{voice}/{key}".encode(), orjson.dumps(policy.dump(state)))
        strata.plan(key, posterior.looked_ms + PUBLISH_EVERY_MS)

    def _look(self, key: str, posterior: Posterior, now_ms: int, unit: UnitLike) -> None:
        """Publish a stratum's weights if they changed."""
        pool, _, stratum = key.partition("/")
        learner = self._learners[pool]
        weights, evidence, regression, bounded = learner.outlook(list(posterior.voices.values()), now_ms)
        cascade, book = None, unit.index.books.get(key)
        if learner.cascade is not None and book is not None:
            cascade = learner.cascade.published(book.in_force(learner.cascade))
        news: list[Any] = [weights, evidence, regression, cascade and asdict(cascade), bounded]
        if news == posterior.published:
            return
        posterior.version += 1
        posterior.published = news
        row = {"version": posterior.version, "published": posterior.published}
        unit.put(key.encode(), orjson.dumps(row))
        published = Weights(
            pool=pool,
            stratum=stratum,
            weights=weights,
            policy_version=f"{learner.policy.name}:{posterior.version}",
            evidence=evidence,
            regression=regression,
            cascade=cascade,
            bounded=bounded,
            at=to_rfc3339(now_ms),
        )
        unit.emit(self._weights, key.encode(), encode(published))

    def _ignore(self, why: str) -> None:
        """Log the first, second, fourth, ... reward that was ignored for this reason."""
        self._ignored[why] += 1
        n = self._ignored[why]
        if n & (n - 1) == 0:
            log.warning("rewards ignored so far: %d (%s)", n, why)


def learners(config: Config) -> dict[str, Learner]:
    """The pools that learn, by name."""
    found: dict[str, Learner] = {}
    for name, pool in config.pools.items():
        policy = POLICIES.get(pool.policy)
        cascade = cascade_of(pool, config.models)
        if policy is not None and (pool.policy != "fixed" or cascade is not None):
            arms = Arms(models=pool.models, baseline=pool.baseline, margin=pool.margin, weights=pool.weights)
            found[name] = Learner(policy, arms, cascade, float(config.feedback.max_tenant_share))
    return found


def rounded(weights: dict[str, float], baseline: str) -> dict[str, float]:
    """To three decimals; what rounding takes or leaves is the baseline's, so that the sum is 1.

    >>> rounded({"small": 0.12345, "large": 0.87655}, "large")
    {'small': 0.123, 'large': 0.877}
    """
    found = {model: round(weight, _DECIMALS) for model, weight in weights.items() if model != baseline}
    rest = round(1.0 - sum(found.values()), _DECIMALS)
    return {model: max(0.0, rest) if model == baseline else found[model] for model in weights}


def _regression(policy: Policy[Any], state: Any, arms: Arms, now_ms: int) -> dict[str, Any] | None:
    """What routers need beside weights, as JSON values to so many digits that noise makes no news; of policy ``squarecb``."""
    if not isinstance(policy, SquareCB):
        return None
    found = policy.regression(state, arms, now_ms)
    return {
        "theta": {model: [round(one, _DECIMALS) for one in theta] for model, theta in found.theta.items()},
        "n": {model: float(f"{n:.2g}") for model, n in found.n.items()},
        "gamma": float(f"{found.gamma:.2g}"),
    }


def build(context: Context) -> list[Stage]:
    return [Learn(context).stage()]


def renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Keys changed by ``names``, the rest as they are."""
    return {names.get(name, name): value for name, value in values.items()}


def _time(text: str) -> int:
    try:
        return from_rfc3339(text)
    except ValueError as error:
        raise BadRecord(f"at: {error}") from error
