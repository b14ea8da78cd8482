"""Offline: fit a classifier to rows of real answers, and say how much it is worth on rows that it has not seen."""
