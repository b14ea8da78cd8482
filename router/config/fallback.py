"""``[pools.X.fallback]``: what follows a failed attempt, by the kind of failure; how much may be asked again; hedges."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from router.config.kinds import Name, Percent
from router.config.section import Section

_Chain = Annotated[tuple[Name, ...], Field(max_length=20)] | None


class FallbackConfig(Section):
    """Who is asked next when an attempt has failed, by what it failed with. `docs/fallback.md` has the rules.

    A chain lists models in their order; each is asked once, and one that is withdrawn, or `down` while another is left, is passed over. It may name
    models outside the pool: they are asked for nothing else. An empty one: nobody. Not set: as each key says.
    """

    error: _Chain = None
    """After errors of the provider or the network, and answers that break off; the model itself has been asked a second time then. Not set: any of
    the pool, as the policy chooses."""
    timeout: _Chain = None
    """After a call that took too long: as `error`."""
    rate_limited: _Chain = None
    """After a 429 of every endpoint. Not set: any of the pool at once; the last that is left is waited for."""
    context_length_exceeded: _Chain = None
    """After a prompt that is too long for the model as its provider counts. Not set: those of the pool with larger windows, smallest first; then those
    with an equal one."""
    refused: _Chain = None
    """After a refusal. Not set: nobody, it is the answer (`content_refused`)."""
    invalid_request: _Chain = None
    """After a provider that takes the request for wrong. Not set: nobody; others would, too."""
    retry_percent: Percent = 20
    """Of a model's first attempts in the last ten seconds: so many may be made again at it, or at models that are all `down`. Ten a second may
    always be, over all partitions."""
    hedge_percent: Percent = 0
    """Of the pool's interactive requests in the last ten seconds, at most so many are asked a second time, once they wait longer than p95 of their
    model. Both attempts are paid for; the first good answer counts. 0: none."""
    hedge_to: Name | None = None
    """Who is asked then; the same model if absent."""

    @property
    def chains(self) -> dict[str, tuple[str, ...]]:
        """Those that are set, by the kind of failure (``core.failure``)."""
        given = {
            "error": self.error,
            "timeout": self.timeout,
            "rate_limited": self.rate_limited,
            "context_length_exceeded": self.context_length_exceeded,
            "refused": self.refused,
            "invalid_request": self.invalid_request,
        }
        return {kind: chain for kind, chain in given.items() if chain is not None}
