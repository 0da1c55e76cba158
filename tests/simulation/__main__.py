"""`python -m tests.simulation`; `--help` says what there is."""

from __future__ import annotations

import sys

from tests.simulation.cli import main

sys.exit(main(sys.argv[1:]))
