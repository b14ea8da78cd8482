"""pointsman: a streaming router for LLM requests on Apache Kafka."""

__version__ = "0.1.0"
