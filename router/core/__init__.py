"""Pure: no I/O, no clock, no randomness, no Kafka. Values in, values out."""
