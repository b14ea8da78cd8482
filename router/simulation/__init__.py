"""Worlds to try the guard in, and recorded streams."""
