"""Rollouts: how far a pilot has come in each stratum, and what must be shown before it goes further."""
