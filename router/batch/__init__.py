"""Batch jobs: a file of requests in, a file of results out, exactly one line each."""
