"""Clusters of real processes that encrypt what they say."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.certificates import make
from tests.system.cluster import Cluster


def issue(cluster: Cluster) -> Path:
    """Put certificates where nodes look for them. The directory with the authority's key."""
    place = cluster.directory / "certificates"
    make(place, *cluster.nodes)
    for node in cluster:
        (node.directory / "tls").mkdir()
        for file in ("ca.pem", f"{node.name}.pem", f"{node.name}.key"):
            shutil.copy(place / file, node.directory / "tls" / file)
    return place
