"""A data directory: identity, term and vote, log, snapshots. The way in is raftd.storage.disk."""
