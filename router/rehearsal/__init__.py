"""A simulated world through the real stage of the guard instead of the core alone: ``pointsman simulate --kafka``."""
