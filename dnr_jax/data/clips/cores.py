"""How many cores there are to work with."""

import os


def available_cores() -> int:
    """Return the number of cores that this process may use, which job schedulers limit."""
    # macOS has no such limit, and no such function.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
