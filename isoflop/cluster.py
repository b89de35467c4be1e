"""A Ray cluster to work on: another's, or one started here on loopback, without a dashboard."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from isoflop.processors import processors

LOCAL = "local"
"""The address that stands for a cluster started here; "auto" is the one that this machine belongs to."""


def connect(address: str, environment: Mapping[str, str], workers: int | None = None) -> Any:
    """Join the cluster at ``address``, or start one of ``workers`` processes here; returns the ray module.

    ``environment`` is that of its workers. By default a local one has a worker per processor. End with
    ``ray.shutdown()``.
    """
    ray = ray_module()
    settings: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    variables = dict(environment)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anyone unasked
    if address == LOCAL:
        settings |= {"num_cpus": workers or len(processors()), "include_dashboard": False}
        settings |= {"_node_ip_address": "127.0.0.1", "address": "local"}
        variables["PYTHONPATH"] = os.pathsep.join(sys.path)  # a user's own modules are found there too
    else:
        settings |= {"address": address}
    ray.init(runtime_env={"env_vars": variables}, **settings)
    return ray


def ray_module() -> Any:
    """Ray, or a ValueError that says how to get it."""
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError('working on a cluster needs Ray: pip install "isoflop[ray]"') from None
    return ray
