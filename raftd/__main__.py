"""`python -m raftd`."""

from raftd.cli import main

main()
