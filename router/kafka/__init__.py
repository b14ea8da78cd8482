"""Bytes in and out of Kafka: knows nothing of LLMs."""
