"""Reading the past: explain, replay, audit."""
