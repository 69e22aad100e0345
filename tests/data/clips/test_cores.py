import os

import pytest

from dnr_jax.data.clips.cores import available_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no limit on the cores of a process on this system")
def test_cores_that_a_process_may_not_use_are_not_counted():
    allowed = os.sched_getaffinity(0)
    assert available_cores() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
