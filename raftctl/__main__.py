"""`python -m raftctl`."""

import sys

from raftctl.cli import main

if __name__ == "__main__":
    sys.exit(main())
