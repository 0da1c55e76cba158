"""Whole clusters in virtual time, everything from one seed, in the spirit of TigerBeetle's VOPR.

    python -m tests.simulation SEED              one seed, with its trace
    python -m tests.simulation --seeds 10000     many, over all cores
    python -m tests.simulation --mutations       which invariant catches which deliberate bug

What is real: the algorithm (raftd.raft) and the storage (raftd.storage) down to its `Files`, below
which lies a simulated drive. What stands in for the rest does what raftd.driver does, in the same
order: `process` the driver, `saving` the saver, `applying` the applier and the snapshots, `serving`
reads and writes, `network` the transport. `world` owns the cluster and its time, `nemesis` breaks
it, `clients` use it, `checker` looks at every step. See `plan` for what a seed decides.
"""
