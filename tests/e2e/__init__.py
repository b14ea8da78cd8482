"""A package, so that its installation ends with the last of its tests, and not with the session."""
