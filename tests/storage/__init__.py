"""Tests of raftd.storage; they mirror its files."""
