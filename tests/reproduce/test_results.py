import dataclasses
import json
import multiprocessing
import re

import numpy as np
import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, to_json
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.reproduce import results
from dnr_jax.reproduce.experiments import Run
from dnr_jax.reproduce.tables import Setting
from tests.reproduce.finished import result

RUN = Run(Setting(), "generated", seed=3)


def test_lines_come_back_as_they_were_written_each_run_once(tmp_path):
    file = tmp_path / "new" / results.RESULTS_FILE
    first, second = result(RUN, [1, 0]), result(dataclasses.replace(RUN, seed=4), [1, 1])
    for line in (first, second, dataclasses.replace(first, top1=0.0)):
        results.append(file, line)
    assert results.read(file, file, tmp_path / "absent.jsonl") == [first, second]
    assert results.by_key([first]) == {(RUN.fingerprint, 3): first}
    np.testing.assert_array_equal(first.right(), [True, False])


def test_a_line_that_was_cut_off_does_not_count_and_another_one_is_named(tmp_path):
    file = tmp_path / "results.jsonl"
    results.append(file, result(RUN, [1]))
    whole = file.read_text()
    file.write_text(whole + whole[:40])
    assert len(results.read(file)) == 1
    file.write_text(whole + '{"top1": 1}\n')
    with pytest.raises(ConfigError, match=r"results.jsonl, line 2 is no result"):
        results.read(file)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": "3"}, "the seed '3' is no integer"),
        ({"seed": True}, "the seed True is no integer"),
        ({"correct": 10}, "'correct' has to be a 0 or a 1"),
        ({"correct": "1x0"}, "'correct' has to be a 0 or a 1"),
        ({"correct": "", "videos": 0}, "'correct' has to be a 0 or a 1"),
        ({"correct": "10"}, "'correct' is of 2 videos, not of 3"),
        ({"correct": "10", "videos": 2, "top1": 0.5}, "it is of 2 videos, lines before it .* of 3"),
        ({"top1": 0.9}, "top1 is 0.9, the mean of 'correct' 0.66"),
        ({"declared": {"setting": {"rate": 9}}}, "is not the fingerprint of what is declared"),
        ({"seed": 3, "correct": "011"}, "with seed 3 is there with another outcome already"),
    ],
)
def test_a_line_that_contradicts_itself_or_others_is_named(changed, said, tmp_path):
    file = tmp_path / "results.jsonl"
    results.append(file, result(RUN, [1, 0, 1]))
    other = dataclasses.asdict(result(dataclasses.replace(RUN, seed=4), [1, 0, 1])) | changed
    with file.open("a") as lines:
        lines.write(json.dumps(other) + "\n")
    with pytest.raises(ConfigError, match=rf"results.jsonl, line 2 is no result.*{said}"):
        results.read(file)


def test_other_folds_and_data_may_have_other_videos_and_a_run_may_be_there_twice(tmp_path):
    file = tmp_path / "results.jsonl"
    run = Run(Setting(), "ut_interaction")
    first = result(run, [1, 0])
    for line in (first, result(dataclasses.replace(run, fold=1), [1]), result(RUN, [1, 1, 1])):
        results.append(file, line)
    other = tmp_path / "other.jsonl"
    results.append(other, dataclasses.replace(first, seconds=1.0))
    assert len(results.read(file, other)) == 3 and results.read(file, other)[0] == first


def test_a_line_after_one_that_was_cut_off_stands_alone(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text('{"fingerprint": "0123')
    results.append(file, result(RUN, [1]))
    assert [found.seed for found in results.read(file)] == [3]


def _append(file, seeds):
    for seed in seeds:
        results.append(file, result(dataclasses.replace(RUN, seed=seed), [1]))


@pytest.mark.slow
def test_two_processes_append_to_one_file(tmp_path):
    file, context = tmp_path / "results.jsonl", multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(file, range(start, start + 30))) for start in (0, 15)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(found.seed for found in results.read(file)) == list(range(45))


def test_the_line_of_a_run_counts_videos_that_could_not_be_decoded_as_wrong(tmp_path):
    rows = [{"step": 5, "time": {"seconds": 2.25}}, {"step": 10, "time": {"seconds": 1.5}}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    report = Report(scores, np.array([0, 0, 0]), ("c", "a", "d"), ("x", "y"), undecoded=("b",))
    line = results.make_result(RUN, report, tmp_path)
    assert (line.correct, line.top1, line.videos) == ("0011", 0.5, 4)
    assert (line.steps, line.seconds, line.seed) == (10, 3.8, 3)
    assert line.device.startswith(f"{8} x cpu") and "cores" in line.device
    assert line.versions == results.versions()


def test_a_line_says_what_computed_it(monkeypatch, tmp_path):
    """Of a wheel there is no commit."""
    found = results.versions.__wrapped__()
    assert {"dnr_jax", "jax", "jaxlib", "flax"} <= set(found)
    assert "commit" not in found or re.fullmatch(r"[0-9a-f]{12}\+?", found["commit"])
    assert results.describe_device().endswith("cores")
    monkeypatch.setattr(results.dnr_jax, "__file__", str(tmp_path / "site-packages" / "dnr_jax" / "__init__.py"))
    assert "commit" not in results.versions.__wrapped__()


def test_hours_are_those_of_all_steps_at_the_median_rate(tmp_path):
    assert results.measured_hours(tmp_path) is None
    config = ExperimentConfig()
    config.train.batch_size, config.train.epochs = 4, 10.0
    (tmp_path / "config.json").write_text(to_json(config))
    rows = [
        {"kind": "train", "step": step, "epoch": step / 50, "time": {"clips_per_second": rate}}
        for step, rate in ((20, 1.0), (40, 2.0), (60, 2.5))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert results.measured_hours(tmp_path) == pytest.approx(10 * 50 * 4 / 2.0 / 3600)
