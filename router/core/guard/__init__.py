"""The guard: sees where a pool's pilot is worse than what it is compared with, in the slice of traffic where it is.

One test a file (``events``, ``means``, ``pairs``), one running detector that they feed (``detector``), one file for the alternatives it bets on
(``grid``). ``unit`` is a stratum or slice, ``monitor`` a pool of them. ``power`` says what can be seen at all, ``revalidation`` when something
may go back. Nothing here knows the truth of a simulated world.
"""
