"""Calls to providers: workers, endpoints, the simulated provider."""
