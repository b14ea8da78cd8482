"""What the documents of Envoy, LiteLLM and Kafka promise where the table of ``operations_page.py`` has our figures. In our own words, read in November 2026.

A promise is what a reader may rely on; a feature that can be configured is said as such. "none found" says that their documents name nothing of the kind, not that
it cannot be done.
"""

from __future__ import annotations

from typing import Final

_ENVOY: Final = "https://www.envoyproxy.io/docs/envoy/latest"
_LITELLM: Final = "https://docs.litellm.ai/docs"
_KAFKA: Final = "https://kafka.apache.org/43"


def _link(text: str, address: str) -> str:
    return f"[{text}]({address})"


#: Part -> whose -> Markdown.
PROMISES: Final[dict[str, dict[str, str]]] = {
    "Load balancing": {
        "Envoy": f"least of two with weights and slow start; outliers ejected, at most a tenth of the hosts unless told otherwise: {_link('balancers', f'{_ENVOY}/intro/arch_overview/upstream/load_balancing/load_balancers')}, {_link('outliers', f'{_ENVOY}/intro/arch_overview/upstream/outlier')}",
        "LiteLLM": f"several strategies over deployments, failing ones cool down for seconds: {_link('routing', f'{_LITELLM}/routing')}",
        "Kafka": "does not balance calls; partitions are shared among consumers",
    },
    "Health, and a model that is silent": {
        "Envoy": f"active and passive health checks of hosts: {_link('outliers', f'{_ENVOY}/intro/arch_overview/upstream/outlier')}; none found for work that waits in a queue",
        "LiteLLM": f"health checks on request or in the background: {_link('health', f'{_LITELLM}/proxy/health')}",
        "Kafka": f"a consumer that sends no heartbeat for `session.timeout.ms` loses its partitions; one that hangs, after `max.poll.interval.ms`: {_link('configuration', f'{_KAFKA}/configuration/consumer-configs/')}",
    },
    "Fallback": {
        "Envoy": f"retries within a budget, by default a fifth of what is active, when one is set; hedging on a time-out: {_link('circuit breakers', f'{_ENVOY}/api-v3/config/cluster/v3/circuit_breaker.proto')}",
        "LiteLLM": f"retries, then chains of model groups, with others for long contexts and refused content: {_link('reliability', f'{_LITELLM}/router/learn/reliability')}",
        "Kafka": "none: what a record asks for is not its business",
    },
    "Overload": {
        "Envoy": f"sheds with 503 by its own memory and other resources; limits of requests upstream: {_link('overload manager', f'{_ENVOY}/configuration/operations/overload_manager/overload_manager')}; no figure for the recovery",
        "LiteLLM": f"limits of parallel requests and of the rate, answered with 429: {_link('limits', f'{_LITELLM}/proxy/users')}; no figure for the recovery",
        "Kafka": f"producers and consumers beyond a quota are slowed down, nothing is refused: {_link('quotas', f'{_KAFKA}/design/design/')}",
    },
    "Tenants": {
        "Envoy": f"limits by a service of one's own, which are passed over by default when it cannot be asked: {_link('rate limit', f'{_ENVOY}/configuration/http/http_filters/rate_limit_filter')}; no fair shares",
        "LiteLLM": f"budgets and limits of keys, users and teams; several instances share them by Redis: {_link('budgets', f'{_LITELLM}/proxy/users')}; no fair shares",
        "Kafka": f"quotas of bytes and of request time for a user or client, by each broker: {_link('quotas', f'{_KAFKA}/design/design/')}",
    },
    "Human control": {
        "Envoy": f"draining and runtime flags by the admin interface: {_link('admin', f'{_ENVOY}/operations/admin')}",
        "LiteLLM": f"models, keys and teams are changed while it runs, with an audit log in the paid version: {_link('audit logs', f'{_LITELLM}/proxy/multiple_admins')}",
        "Kafka": f"settings of brokers and topics are changed while they run: {_link('operations', f'{_KAFKA}/operations/basic-kafka-operations/')}",
    },
    "Dead letters and redrive": {
        "Envoy": "none: a request that failed is the caller's",
        "LiteLLM": "none found",
        "Kafka": f"Connect writes what a sink cannot take to a topic, when told to; sending it back is left to others: {_link('Connect', f'{_KAFKA}/kafka-connect/user-guide/')}",
    },
    "Hostile input": {
        "Envoy": f"each extension says what traffic it withstands, the core is fuzzed all the time: {_link('threat model', f'{_ENVOY}/intro/arch_overview/security/threat_model')}",
        "LiteLLM": "limits of the size of a request; no threat model found",
        "Kafka": "clients are trusted by what their ACLs allow; a record's bytes are not looked into",
    },
    "Secrets and access": {
        "Envoy": f"TLS on both sides, secrets exchanged while it runs, access by role: {_link('security', f'{_ENVOY}/intro/arch_overview/security/security')}",
        "LiteLLM": f"virtual keys, kept as hashes, with roles: {_link('keys', f'{_LITELLM}/proxy/virtual_keys')}",
        "Kafka": f"TLS, SASL, ACLs by operation: {_link('security', f'{_KAFKA}/security/security-overview/')}",
    },
    "Privacy": {
        "Envoy": "bodies are not logged unless a filter is told to",
        "LiteLLM": f"texts can be kept out of logs: {_link('logging', f'{_LITELLM}/proxy/logging')}",
        "Kafka": f"records end with retention; a tombstone removes a key when the topic is compacted: {_link('compaction', f'{_KAFKA}/design/design/')}",
    },
    "Upgrades": {
        "Envoy": f"a new process takes over the sockets of the old one while connections drain: {_link('hot restart', f'{_ENVOY}/intro/arch_overview/operations/hot_restart')}",
        "LiteLLM": f"instances are replaced one by one, with one of them changing the database: {_link('production', f'{_LITELLM}/proxy/prod')}; none found on two versions beside each other",
        "Kafka": f"brokers one by one, clients of other versions beside them; back again unless the metadata were changed, as by 4.3: {_link('upgrading', f'{_KAFKA}/getting-started/upgrade/')}",
    },
    "Kills and faults": {
        "Envoy": "a request in the hands of a process that dies is lost; the caller asks again",
        "LiteLLM": "a request in the hands of a process that dies is lost; the caller asks again",
        "Kafka": f"what was acknowledged stays while one in-sync copy does; exactly once from topic to topic by transactions: {_link('semantics', f'{_KAFKA}/design/design/')}",
    },
    "Soak": {
        "Envoy": "no figure found",
        "LiteLLM": f"no figure found; how to size and run its workers: {_link('production', f'{_LITELLM}/proxy/prod')}",
        "Kafka": "no figure found",
    },
}
