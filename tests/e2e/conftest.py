"""One installation for the whole folder: ``pointsman up`` as a process, with models that behave in different ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.system import System

CONFIG = """
[models.small]
provider = "sim"
input_usd_per_mtok = 0.15
output_usd_per_mtok = 0.60
[models.large]
provider = "sim"
input_usd_per_mtok = 2.50
output_usd_per_mtok = 10.00
[models.failing]
provider = "sim"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.10
[models.refusing]
provider = "sim"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.10
[models.slow]
provider = "sim"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.10
concurrency = 200
[models.unserved]
provider = "external"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.10
[models.leaving]
provider = "external"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.10
[models.narrow]
provider = "sim"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.10
concurrency = 8
[pools.auto]
models = ["small", "large"]
baseline = "large"
[pools.left]
models = ["leaving", "large"]
policy = "fixed"
weights = { leaving = 1.0 }
sticky = "none"
holdout_percent = 0
[pools.shaky]
models = ["failing", "large"]
baseline = "large"
policy = "fixed"
weights = { failing = 1.0 }
holdout_percent = 0
[pools.guarded]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
sticky = "none"
margin = 0.1
rollout_percent = 60
auto_rollback = true
[pools.sliced]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
sticky = "none"
margin = 0.1
rollout_percent = 60
auto_rollback = true
[pools.climbing]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
sticky = "none"
margin = 0.15
[pools.climbing.rollout]
stages = [40, 60, 100]
min_days = 0.05
n_min = 20
min_saving = false
latency_ratio = false
error_increase = 0.2
[guard]
day_s = 60
[pools.paced]
models = ["small", "large"]
policy = "squarecb"
objective = "budget"
budget_usd_per_request = 0.0003
holdout_percent = 0
[models.unsure]
provider = "sim"
capabilities = ["logprobs"]
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.40
[pools.checked]
models = ["unsure", "large"]
policy = "fixed"
weights = { unsure = 1.0 }
holdout_percent = 0
[pools.checked.cascade]
target_risk = 0.1
label_percent = 100
[models.arbiter]
provider = "sim"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.40
[pools.judged]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
holdout_percent = 0
judge = "arbiter"
cascade = { signal = "judge" }
[models.umpire]
provider = "sim"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.40
[pools.doubled]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
holdout_percent = 0
shadow_percent = 50
judge = "umpire"
[pools.looked]
models = ["small", "large"]
policy = "fixed"
weights = { small = 0.7, large = 0.3 }
holdout_percent = 0
reviews_per_day = 1000000
[pools.marked]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
holdout_percent = 0
reviews_per_day = 1000000
shadow_percent = 100
judge = "umpire"
[surveys.marked]
question = "Did this answer help you?"
pools = ["marked"]
percent = 100
per_day = 1000
[models.brittle]
provider = "sim"
input_usd_per_mtok = 0.10
output_usd_per_mtok = 0.40
context_window = 8000
max_output_tokens = 1000
max_error_rate = 1
first_token_timeout_s = 0.7
idle_timeout_s = 0.7
[models.sturdy]
provider = "sim"
input_usd_per_mtok = 1.00
output_usd_per_mtok = 4.00
[pools.fragile]
models = ["brittle", "sturdy"]
policy = "fixed"
weights = { brittle = 1.0 }
sticky = "none"
holdout_percent = 0
[pools.chained]
models = ["brittle", "large"]
policy = "fixed"
weights = { brittle = 1.0 }
sticky = "none"
holdout_percent = 0
[pools.chained.fallback]
error = ["sturdy", "large"]
refused = ["sturdy"]
invalid_request = ["large"]
[pools.hedged]
models = ["brittle", "sturdy"]
policy = "fixed"
weights = { brittle = 1.0 }
sticky = "none"
holdout_percent = 0
[pools.hedged.fallback]
hedge_percent = 20
[pools.surveyed]
models = ["small", "large"]
policy = "fixed"
weights = { small = 1.0 }
sticky = "none"
holdout_percent = 50
[surveys.helpful]
question = "Did this answer help you?"
scale = "1-5"
pools = ["surveyed"]
percent = 100
per_day = 1000
[tenants.metered]
requests_per_minute = 60
[tenants.thrifty]
budget_usd_per_day = 0.002
soft_usd_per_day = 0.0001
[route]
max_queue_s = 5
[account]
window_s = 5
grace_s = 2
[web]
port = 0
[kafka]
partitions = 4  # ``up`` by itself makes one, as in test_life.py and test_demo.py
"""

BEHAVIOUR = """
[models.default]
latency_ms = 20
[models.failing.errors]
500 = 1.0
[models.refusing.errors]
refused = 1.0
[models.unsure]
certainty = 1.0
served_model = "unsure-2026-11"
[models.unsure.quality]
default = 0.7
[models.umpire]
says = "A"
[models.slow]
latency_ms = 4000
latency_sigma = 0
[models.narrow]
latency_ms = 200
latency_sigma = 0
"""


@pytest.fixture(scope="package")
def system() -> Iterator[System]:
    with System(CONFIG, BEHAVIOUR) as found:
        yield found
