"""What holds for the programs that tests start."""

from __future__ import annotations

import base64
import json
import os

_CONFIG = "COVERAGE_PROCESS_CONFIG"


def follow_greenlets() -> None:
    """Let coverage measure greenlets in the programs that are started from now on.

    There are some in them, and next to none in the process of the tests, where this would cost as much as the tests.
    """
    if _CONFIG in os.environ:
        config = json.loads(base64.b64decode(os.environ[_CONFIG]))
        config["concurrency"] = ["thread", "greenlet"]
        os.environ[_CONFIG] = base64.b64encode(json.dumps(config).encode()).decode()
