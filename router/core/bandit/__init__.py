"""Routing policies: one file each, one contract."""
