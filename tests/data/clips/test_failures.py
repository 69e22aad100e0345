import json

import numpy as np
import pytest

from dnr_jax.config import RunError
from dnr_jax.data.catalogue import sources
from dnr_jax.data.clips.failures import FailureLog, check_share
from tests.data.clips.broken import with_broken


@pytest.fixture
def train(data):
    return sources.load_sources(data)[0]


def batch_of(index, failed, weight):
    return {"index": np.array(index), "failed": np.array(failed), "weight": np.array(weight, np.float32)}


def test_failure_log_counts_and_names(train):
    log = FailureLog(train, max_fraction=0.5)
    log.update(batch_of([0, 5, 2], [-1, 4, -1], [1, 1, 1]))
    log.update(batch_of([1, 5, 9, -1], [-1, 4, 9, -1], [1, 1, 0, 0]))
    assert log.count == 3
    assert log.names == [train.names[4], train.names[9]]


def test_failure_log_goes_on_from_its_state(train):
    batches = [batch_of([0, 5], [-1, 4], [1, 1]), batch_of([3, 7], [3, -1], [1, 1])]
    whole, first, second = (FailureLog(train, 0.5) for _ in range(3))
    whole.update(batches[0])
    whole.update(batches[1])
    first.update(batches[0])
    second.restore(json.loads(json.dumps(first.state())))
    second.update(batches[1])
    assert second.state() == whole.state() and second.names == whole.names and second.count == 2


def test_failure_log_ends_the_run_above_the_limit(train):
    log = FailureLog(train, max_fraction=0.25)
    for number in range(9):  # 18 videos, half of them broken: too few to judge
        log.update(batch_of([number, 5], [-1, number], [1, 1]))
    with pytest.raises(RunError, match=f"data.max_failures = 0.25 .*: 10 of 20, among them {train.names[0]}"):
        log.update(batch_of([9, 5], [-1, 9], [1, 1]))
    assert log.state() == {"read": 18, "count": 9, "failed": list(range(9))}  # whoever goes on reads that batch again


def test_failure_log_tolerates_the_limit_itself(train):
    log = FailureLog(train, max_fraction=0.25)
    for _ in range(20):
        log.update(batch_of([0, 1, 2, 3], [-1, -1, -1, 2], [1, 1, 1, 1]))
    assert log.count == 20


def test_failure_log_ends_the_run_at_a_batch_of_failures(train):
    log = FailureLog(train, max_fraction=1.0)
    log.update(batch_of([5, -1, -1, -1], [5, -1, -1, -1], [0, 0, 0, 0]))  # one broken video and padding
    with pytest.raises(RunError, match="a whole batch .*: 5 of 5, among them"):
        log.update(batch_of([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0]))


def test_failures_are_named_in_a_report(train, tmp_path):
    """Each once, with the reason, also after the run was resumed."""
    broken, report = with_broken(train, {4, 9}, tmp_path), tmp_path / "undecoded.jsonl"
    log = FailureLog(broken, 0.5, report)
    assert not report.exists()
    log.update(batch_of([0, 5, 10], [-1, 4, 9], [1, 1, 1]))
    log.update(batch_of([1, 5], [-1, 4], [1, 1]))
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(row["index"], row["name"]) for row in rows] == [(4, train.names[4]), (9, train.names[9])]
    assert all(row["path"] == str(tmp_path / "broken.mp4") and "Invalid data" in row["reason"] for row in rows)
    before = report.read_text()
    resumed = FailureLog(broken, 0.5, report)
    resumed.restore(log.state())
    resumed.update(batch_of([5], [4], [1]))
    assert report.read_text() == before
    with pytest.raises(RunError, match=r"undecoded.jsonl says why.*'dnr check' lists all"):
        resumed.update(batch_of([0, 1, 2, 3], [0, 1, 2, 3], [0, 0, 0, 0]))


def test_a_validation_may_lose_the_share_that_is_allowed():
    names = [f"a/{number}.mp4" for number in range(20)]
    check_share((), 0, 0.0)
    check_share(names[:5], 20, 0.25)
    check_share(names[:18], 19, 0.0)  # too few to judge
    with pytest.raises(
        RunError, match=r"data.max_failures = 0.25 of the validation videos .*: 6 of 20, among them a/0"
    ):
        check_share(names[:6], 20, 0.25)
    with pytest.raises(RunError, match=r"^all of the validation videos could not be decoded: 3 of 3, .*'dnr check'"):
        check_share(names[:3], 3, 1.0)
