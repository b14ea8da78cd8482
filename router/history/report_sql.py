"""Statements of the report, in the order in which they run: from the archive's rows to one row a request, and to what is observed of it.

Everything of a request counts in the week of its first decision (Monday, UTC), whenever it was settled or judged. Parts of the cost:

| part | attempts |
|---|---|
| ``judge`` | reason ``judge``, whosever answer it looks at |
| ``shadow`` | other attempts of cohort ``shadow`` |
| ``escalations`` | reason ``escalate``: what a cascade asked the better model |
| ``retries`` | reasons ``retry``, ``fallback``, ``hedge`` |
| ``first`` | the rest, in three arms: ``pilot``; ``reference`` (holdout and control); ``pinned`` |

The reference stands in for the pilot with weights: one of its requests counts for as many of the pilot's as there are to one of its own in
that stratum and week. What comes from the data is never part of a statement: names are values in rows.
"""

from __future__ import annotations

PARTS = """
CREATE TEMP VIEW parts AS SELECT *, CASE
    WHEN reason = 'judge' THEN 'judge'
    WHEN cohort = 'shadow' OR reason = 'shadow' THEN 'shadow'
    WHEN reason = 'escalate' THEN 'escalations'
    WHEN reason IN ('retry', 'fallback', 'hedge') THEN 'retries'
    ELSE 'first' END AS part
FROM attempts WHERE request_id IS NOT NULL
"""
DECIDED = """
CREATE TEMP TABLE decided AS SELECT request_id, first(
    {'pool': pool, 'stratum': stratum, 'cohort': cohort, 'session': session, 'tokens': prompt_tokens, 'at_ms': record_ms}
    ORDER BY attempt = 0, attempt, record_ms, "partition", "offset") AS d
FROM decisions WHERE request_id IS NOT NULL AND shadow_of IS NULL AND coalesce(cohort, '') <> 'shadow' AND attempt < 100
GROUP BY request_id
"""
SPENT = """
CREATE TEMP TABLE spent AS SELECT request_id, min(at_ms) AS at_ms, any_value(pool) AS pool, any_value(stratum) AS stratum,
    any_value(cohort) FILTER (cohort <> 'shadow') AS cohort, count(*) AS attempts, count(*) FILTER (cost_nano_usd IS NULL) AS unknown,
    coalesce(sum(cost_nano_usd) FILTER (part = 'judge'), 0) AS judge,
    coalesce(sum(cost_nano_usd) FILTER (part = 'shadow'), 0) AS shadow,
    coalesce(sum(cost_nano_usd) FILTER (part = 'escalations'), 0) AS escalations,
    coalesce(sum(cost_nano_usd) FILTER (part = 'retries'), 0) AS retries,
    coalesce(sum(cost_nano_usd) FILTER (part = 'first'), 0) AS first,
    coalesce(sum(baseline_cost_nano_usd), 0) AS baseline,
    max(completion_tokens) FILTER (part = 'shadow' AND status = 'ok' AND model = baseline) AS shadow_tokens
FROM parts GROUP BY request_id
"""
SETTLED = """
CREATE TEMP TABLE settled AS SELECT request_id, count(*) AS n, count(*) FILTER (error_code IS NULL) AS answers,
    arg_max(model, record_ms) FILTER (error_code IS NULL) AS model, any_value(pool) AS pool, any_value(stratum) AS stratum,
    any_value(cohort) AS cohort, min(record_ms) AS at_ms
FROM results WHERE request_id IS NOT NULL GROUP BY request_id
"""
ANSWERS = """
CREATE TEMP TABLE answers AS SELECT request_id, arg_max({
    'length': parts.completion_tokens, 'prompt': parts.prompt_tokens, 'price': parts.baseline_output_nano_usd_per_token,
    'own': coalesce(parts.model = parts.baseline, false)}, attempt) AS a
FROM parts JOIN settled USING (request_id)
WHERE part IN ('first', 'retries', 'escalations') AND status = 'ok' AND NOT coalesce(late, false) AND parts.model = settled.model
GROUP BY request_id
"""
REQUESTS = """
CREATE TEMP TABLE requests AS SELECT *, CAST(date_trunc('week', epoch_ms(at_ms)) AS DATE)::VARCHAR AS week FROM (
    SELECT request_id, coalesce(d.at_ms, spent.at_ms, settled.at_ms) AS at_ms, coalesce(d.session, request_id) AS unit,
        coalesce(d.pool, spent.pool, settled.pool) AS pool,
        coalesce(d.stratum, spent.stratum, settled.stratum, 'none') AS stratum,
        CASE coalesce(d.cohort, spent.cohort, settled.cohort) WHEN 'pilot' THEN 'pilot' WHEN 'holdout' THEN 'reference'
            WHEN 'control' THEN 'reference' WHEN 'pinned' THEN 'pinned' ELSE 'other' END AS arm,
        coalesce(settled.n, 0) AS n, coalesce(settled.answers, 0) > 0 AS answered,
        coalesce(attempts, 0) AS attempts, coalesce(unknown, 0) AS unknown, coalesce(judge, 0) AS judge, coalesce(shadow, 0) AS shadow,
        coalesce(escalations, 0) AS escalations, coalesce(retries, 0) AS retries, coalesce(first, 0) AS first,
        coalesce(baseline, 0) AS baseline, a.length AS length, a.prompt AS prompt, d.tokens AS tokens, coalesce(a.own, false) AS own, a.price AS price,
        least(coalesce(a.price, 0) * coalesce(a.length, 0), coalesce(baseline, 0)) AS length_cost, shadow_tokens,
        coalesce(baseline, 0) = 0 OR a.price IS NULL OR a.length IS NULL AS unpriced
    FROM spent FULL JOIN settled USING (request_id) LEFT JOIN decided USING (request_id) LEFT JOIN answers USING (request_id)
) WHERE at_ms IS NOT NULL AND at_ms >= $since AND at_ms < $until
"""
#: ``times``: what a request of the reference counts for; ``usual``: length part of a usual answer of the pilot.
MIX = """
CREATE TEMP TABLE mix AS SELECT pool, stratum, week, pilot / reference AS times, usual FROM (
    SELECT pool, stratum, week, count(*) FILTER (arm = 'pilot') AS pilot, count(*) FILTER (arm = 'reference') AS reference,
        avg(length_cost) FILTER (arm = 'pilot' AND NOT unpriced) AS usual
    FROM requests WHERE answered AND pool IS NOT NULL GROUP BY ALL) WHERE pilot > 0 AND reference > 0
"""
#: What is observed of a request: units' weight ``x`` and value ``y``, of ``n`` observations.
LENGTHS = """
CREATE TEMP VIEW lengths AS SELECT pool, stratum, week, arm, unit, 1 AS n, usual AS x, length_cost AS y
FROM requests JOIN mix USING (pool, stratum, week) WHERE answered AND NOT unpriced AND (arm = 'pilot' OR own)
"""
TOKENS = """
CREATE TEMP VIEW tokens AS SELECT pool, stratum, week, arm, unit, 1 AS n, tokens AS x, prompt AS y FROM requests
WHERE answered AND prompt > 0 AND tokens > 0 AND (arm = 'pilot' OR own)
"""
PAIRED = """
CREATE TEMP VIEW paired AS SELECT pool, stratum, week, unit, length_cost, shadow_tokens * price AS shadow_cost FROM requests
WHERE answered AND arm = 'pilot' AND NOT own AND NOT unpriced AND pool IS NOT NULL
"""
PAIRED_MIX = """
CREATE TEMP TABLE paired_mix AS SELECT pool, stratum, week, count(*) / count(shadow_cost) AS times
FROM paired GROUP BY ALL HAVING count(shadow_cost) > 0
"""
OPINIONS = """
CREATE TEMP TABLE opinions AS SELECT CASE
        WHEN kind IN ('review', 'label') AND source = 'user' THEN 'rated'
        WHEN kind IN ('review', 'label') AND source = 'judge' THEN 'judged' WHEN kind IN ('review', 'label') THEN 'reviewed'
        WHEN kind IN ('rating', 'survey') THEN 'rated' ELSE kind END AS kind,
    request_id, reward, greatest(coalesce(weight, 1.0), 0.0) / coalesce(
        CASE WHEN kind IN ('review', 'label') AND source <> 'user' THEN coalesce(pi, CASE WHEN label_inclusion > 0 THEN label_inclusion END) END, 1.0) AS weight
FROM rewards LEFT JOIN (
    SELECT request_id, max(inclusion_probability) FILTER (inclusion_probability > 0) AS pi FROM reviews GROUP BY request_id
) USING (request_id)
WHERE reward BETWEEN 0 AND 1 AND (label_inclusion IS NULL OR arm IS NULL)
"""
SAID = """
CREATE TEMP VIEW said AS SELECT kind, pool, stratum, week, requests.arm AS arm, unit, 1 AS n, opinions.weight AS x,
    opinions.weight * reward AS y
FROM opinions JOIN requests USING (request_id) WHERE answered AND opinions.weight > 0
"""
EVENTS = """
CREATE TEMP TABLE events AS SELECT request_id, count(*) FILTER (kind = 'thumbs') AS thumbs,
    count(*) FILTER (kind = 'thumbs' AND reward < 0.5) > 0 AS down, count(*) FILTER (kind = 'retry') > 0 AS again
FROM opinions WHERE kind IN ('thumbs', 'retry') GROUP BY request_id
"""
QUIET = """
CREATE TEMP VIEW quiet AS SELECT pool, stratum, week, arm, unit, 1 AS n, 1.0 AS x, CASE WHEN down THEN 0.0 ELSE 1.0 END AS y
FROM requests LEFT JOIN events USING (request_id) WHERE answered
"""
AGAIN = """
CREATE TEMP VIEW again AS SELECT pool, stratum, week, arm, unit, 1 AS n, 1.0 AS x, CASE WHEN again THEN 1.0 ELSE 0.0 END AS y
FROM requests LEFT JOIN events USING (request_id) WHERE answered
"""
STEPS = (PARTS, DECIDED, SPENT, SETTLED, ANSWERS)
VIEWS = (MIX, LENGTHS, TOKENS, PAIRED, PAIRED_MIX, OPINIONS, SAID, EVENTS, QUIET, AGAIN)
