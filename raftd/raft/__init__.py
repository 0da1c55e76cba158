"""The Raft algorithm, and nothing else: no IO, no clock, no dice, no logging, no async.

One way in (the methods of `raft.Raft`, each given `now`), one way out (`take_update`).
"""
