"""What outside programs rely on: records, topics, error codes. Data and pure functions, no I/O."""
