"""Damaged videos end neither a worker nor a run; ``python -m tests.data.damaged`` has more of them."""

import numpy as np

from tests.data import damaged


def test_damaged_videos_give_a_clip_or_are_refused(tmp_path):
    media = damaged.originals(tmp_path)
    copies, kinds = damaged.damaged(media, 280, seed=0)
    clips = damaged.read_all([*copies, *media.values()])
    assert clips[len(copies) :].all()  # what is not damaged
    cut = np.array(kinds) == "truncated"
    assert 0 < clips[: len(copies)].sum() < len(copies)
    assert not clips[: len(copies)][cut].all()
    assert set(kinds) == set(damaged.KINDS)
    assert all(copy not in media.values() for copy in copies)
