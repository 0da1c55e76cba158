"""raftd: a Raft consensus daemon for ordinary Linux hosts."""

__version__ = "0.1.0"
