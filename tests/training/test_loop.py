import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, RunError, flatten, from_json, to_json
from dnr_jax.config.data import RandAugment
from dnr_jax.dnr import DNRSpec, GroupNorm
from dnr_jax.evaluation import outputs
from dnr_jax.evaluation.evaluate import Report
from dnr_jax.models import TSN
from dnr_jax.runs.checkpoint import Checkpoints
from dnr_jax.runs.devices import make_mesh
from dnr_jax.runs.folder import METRICS_FILE, read_metrics
from dnr_jax.runs.inference import normalize
from dnr_jax.training import loop
from dnr_jax.training.hooks import Hook
from dnr_jax.training.metrics import MetricWindow, NonFiniteError
from dnr_jax.training.optimizer import make_optimizer
from dnr_jax.training.report import CURVE_FILE
from dnr_jax.training.resolve import CHANGEABLE
from dnr_jax.training.state import abstract_state
from dnr_jax.training.stop import StopRequest
from dnr_jax.training.trainer import Trainer
from tests.paths import REPOSITORY
from tests.training.tiny import opened, shrink_resnet18, tiny_config, train, write_videos

LAST_LINE = re.compile(
    r"validation top-1 (\d+\.\d)% \((\d+)/(\d+) videos\)"
    r"(; the best checkpoint had \d+\.\d% at step \d+: --checkpoint best takes it)?"
)


def rows_without_time(workdir: pathlib.Path) -> list[dict]:
    return [
        {name: value for name, value in row.items() if name != "time"} for row in read_metrics(workdir / METRICS_FILE)
    ]


def saved_bytes(workdir: pathlib.Path) -> list[bytes]:
    """Every array of the latest checkpoint, bit for bit."""
    config = from_json((workdir / "config.json").read_text())
    tx = make_optimizer(config.optimizer, lambda count: 0.0)
    mesh = make_mesh(jax.devices()[:1])
    averaged = config.train.averaging is not None
    abstract = abstract_state(config.model.build(), tx, config.data.clip_shape, mesh, averaged)
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        state, _ = checkpoints.restore(abstract, checkpoints.latest_step)
    leaves = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
    assert saved_bytes(one) == saved_bytes(other)
    assert rows_without_time(one) == rows_without_time(other)
    assert (one / "evaluation.json").read_text() == (other / "evaluation.json").read_text()


@pytest.fixture(scope="module")
def whole_run(videos, tmp_path_factory):
    """The run that nothing interrupts, and its report."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, train(tiny_config(videos, checkpoint_every=3, loggers=("tensorboard",)), workdir)


@pytest.mark.compat
def test_a_run_leaves_its_records(whole_run, videos):
    workdir, report = whole_run
    events = [path.name for path in workdir.glob("events.out.tfevents.*")]
    assert len(events) == 1
    assert {path.name for path in workdir.iterdir()} == {
        *("checkpoints", "config.json", "classes.txt", "metrics.jsonl", *events),
        *("training_curve.png", "run.lock", *outputs.FILES),
    }
    assert (workdir / "classes.txt").read_text().split() == ["dark", "grey", "light"]
    assert from_json((workdir / "config.json").read_text()).model.num_classes == 3
    kinds = [(row["kind"], row["step"]) for row in read_metrics(workdir / METRICS_FILE)]
    assert kinds == [("train", 2), ("train", 4), ("validation", 4), ("train", 6), ("train", 8), ("validation", 8)]
    assert (workdir / CURVE_FILE).stat().st_size > 5000
    written = json.loads((workdir / "evaluation.json").read_text())
    assert (written["top1"], written["videos"], written["step"], written["views"]) == (report.top1, 7, 8, "1x1 of 16")


def test_the_last_line_says_how_good_it_is(videos, tmp_path, capsys):
    report = train(tiny_config(videos, steps=1), tmp_path)
    last = capsys.readouterr().out.splitlines()[-1]
    match = LAST_LINE.fullmatch(last)
    assert match, last
    assert int(match[3]) == 7
    assert int(match[2]) == report.correct == round(report.top1 * 7)
    assert match[1] == f"{100 * report.correct / 7:.1f}"


def test_validations_are_printed_with_the_best_so_far(videos, tmp_path, capsys):
    """Of evaluations that are handed in."""
    right = iter([1, 2, 1])

    def evaluate(variables, evaluation):
        scores = np.where(np.arange(4)[:, None] < next(right), [0.75, 0.25], [0.25, 0.75]).astype(np.float32)
        return Report(scores, np.zeros(4, np.int32), tuple("abcd"), ("x", "y"))

    with opened(tiny_config(videos, steps=3, eval_every=1), tmp_path) as trainer:
        trainer.evaluate = evaluate
        trainer.run()
    assert [line for line in capsys.readouterr().out.splitlines() if "top-1" in line] == [
        "step 1: validation top-1 25.0% (1/4 videos), loss 1.112; the best so far",
        "step 2: validation top-1 50.0% (2/4 videos), loss 0.837; the best so far",
        "step 3: validation top-1 25.0% (1/4 videos), loss 1.112; best: 50.0% at step 2",
        "validation top-1 25.0% (1/4 videos); the best checkpoint had 50.0% at step 2: --checkpoint best takes it",
    ]


@pytest.mark.compat
class Signal(Hook):
    """Sends this process a signal after a step."""

    def __init__(self, number: int, step: int):
        self.number, self.step = number, step

    def after_step(self, trainer: Trainer) -> None:
        if trainer.step == self.step:
            os.kill(os.getpid(), self.number)


def test_half_a_run_and_the_other_half_are_a_run(whole_run, videos, tmp_path):
    """Stopped between two rows, at a step that is neither logged nor evaluated."""
    with pytest.raises(SystemExit) as stopped:
        train(tiny_config(videos, checkpoint_every=3), tmp_path, Signal(signal.SIGTERM, step=5))
    assert stopped.value.code == 128 + signal.SIGTERM
    with contextlib.closing(Checkpoints(tmp_path, read_only=True)) as checkpoints:
        assert checkpoints.latest_step == 5
    train(tiny_config(videos, checkpoint_every=3), tmp_path)
    assert_same_run(tmp_path, whole_run[0])


@pytest.fixture
def interruptible():
    """The handler that a program started in the foreground has; one started in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.compat
def test_being_stopped_says_how_to_go_on(videos, tmp_path, interruptible, capsys):
    with pytest.raises(SystemExit) as stopped:
        train(tiny_config(videos), tmp_path, Signal(signal.SIGINT, step=1))
    assert stopped.value.code == 130
    assert "stopped after step 1 of 8" in (message := capsys.readouterr().err)
    assert "same command" in message
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(interruptible):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup and shells do for programs in the background
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal is None
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


def test_precise_statistics_are_those_of_the_first_batches(videos, tmp_path):
    with opened(tiny_config(videos, steps=3, precise_statistics=2), tmp_path) as trainer:
        trainer.run()
    with contextlib.closing(trainer.batches(0)) as batches:
        clips = np.concatenate([next(batches)["video"] for _ in range(2)])
    assert len(clips) == 8
    video = normalize(jnp.asarray(clips), trainer.config.data)
    convolution = nn.Conv(6, (3, 3), (2, 2))
    features = convolution.apply({"params": trainer.state.params["conv"]}, video)
    stats = trainer.state.batch_stats["norm"]
    np.testing.assert_allclose(stats["mean"], features.mean((0, 1, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], features.var((0, 1, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.compat
def test_a_finished_run_only_repeats_its_last_line(whole_run, videos, tmp_path, capsys):
    shutil.copytree(whole_run[0], tmp_path, dirs_exist_ok=True)
    report = train(tiny_config(videos, checkpoint_every=3), tmp_path)
    assert capsys.readouterr().out.splitlines()[-1].startswith(str(report))
    assert str(report) == str(whole_run[1])
    assert_same_run(tmp_path, whole_run[0])


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been_killed(videos, tmp_path):
    def start(workdir: pathlib.Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.training.run_tiny", str(videos), str(workdir), "0.2"]
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )

    killed = start(tmp_path / "killed")
    wait_for_step(tmp_path / "killed", 21, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert read_metrics(tmp_path / "killed" / METRICS_FILE)[-1]["step"] < 60
    assert any((tmp_path / "killed" / "checkpoints").glob("[0-9]*"))
    for workdir in (tmp_path / "killed", tmp_path / "whole"):
        process = start(workdir)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()
        assert LAST_LINE.fullmatch(out.decode().splitlines()[-1])
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def wait_for_step(workdir: pathlib.Path, step: int, process: subprocess.Popen) -> None:
    """Wait until a row of ``step`` is written."""
    deadline = time.monotonic() + 200
    while not any(row["step"] >= step for row in read_metrics(workdir / METRICS_FILE)):
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_may_be_made_longer(whole_run, videos, tmp_path):
    shutil.copytree(whole_run[0], tmp_path, dirs_exist_ok=True)
    train(tiny_config(videos, steps=10), tmp_path)
    assert read_metrics(tmp_path / METRICS_FILE)[-1]["step"] == 10
    assert from_json((tmp_path / "config.json").read_text()).train.steps == 10


def test_another_experiment_is_refused_in_the_same_folder(whole_run, videos):
    config = tiny_config(videos, seed=3)
    config.optimizer.learning_rate = 0.2
    with pytest.raises(ConfigError) as refused:
        train(config, whole_run[0])
    message = str(refused.value)
    assert "optimizer.learning_rate: 0.1 there, 0.2 now" in message
    assert "train.seed: 0 there, 3 now" in message
    assert "steps" not in message


def test_a_warm_up_as_long_as_the_run_is_told_at_its_start(videos, tmp_path, capsys):
    with opened(tiny_config(videos, steps=2), tmp_path):
        assert capsys.readouterr().err.count("WARNING: optimizer.warmup_steps: is 2, and the run has 2 steps") == 1


def no_memory(*arguments):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nmore")


@pytest.mark.slow
def test_a_step_without_memory_says_what_needs_less_and_where_the_run_goes_on(videos, tmp_path):
    config = tiny_config(videos, eval_every=1)
    with pytest.raises(RunError) as refused, opened(config, tmp_path) as trainer:
        trainer.take_step = no_memory
        trainer.run()
    assert "There is no checkpoint yet" in str(refused.value)
    train(tiny_config(videos, steps=1, eval_every=1), tmp_path)
    with pytest.raises(RunError) as refused, opened(config, tmp_path) as trainer:
        trainer.take_step = no_memory
        trainer.run()
    for name in ("train.accumulate", "model.remat", "train.batch_size", "dnr plan"):
        assert name in str(refused.value)
    assert str(refused.value).endswith("The checkpoint of step 1 is complete: the same command goes on from there")
    assert "more" not in str(refused.value).partition(")")[0]
    train(config, tmp_path)


def test_an_evaluation_without_memory_names_its_batch(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "make_eval_step", lambda *arguments: no_memory)
    with pytest.raises(RunError, match="RESOURCE_EXHAUSTED.*evaluation.batch_size.*checkpoint of step 1 is complete"):
        train(tiny_config(videos, steps=1), tmp_path)


def test_other_errors_of_xla_are_left_as_they_are(videos, tmp_path):
    def broken(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: RESOURCE")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), opened(tiny_config(videos), tmp_path) as trainer:
        trainer.take_step = broken
        trainer.run()


@pytest.mark.slow
def test_a_run_goes_on_with_less_memory(videos, tmp_path, monkeypatch):
    shrink_resnet18(monkeypatch)
    config = tiny_config(videos, steps=1, eval_every=1)
    config.model = TSN(depth=18, width=2, stem="small", num_classes=0, norm=DNRSpec(relay_distance=2))
    train(config, tmp_path)
    config.model.remat, config.train.steps = "block", 2
    train(config, tmp_path)
    assert read_metrics(tmp_path / METRICS_FILE)[-1]["step"] == 2


def test_a_section_that_was_switched_on_or_off_is_told_by_its_name(whole_run, videos, tmp_path):
    config = tiny_config(videos)
    config.data.rand_augment = RandAugment()
    with pytest.raises(ConfigError, match=r"same values:\n  data.rand_augment: None there, 'RandAugment' now$"):
        train(config, whole_run[0])
    shutil.copytree(whole_run[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text(to_json(config))
    with pytest.raises(ConfigError, match=r"same values:\n  data.rand_augment: 'RandAugment' there, None now$"):
        train(tiny_config(videos), tmp_path)


def test_a_finished_run_cannot_be_made_shorter(whole_run, videos):
    with pytest.raises(ConfigError, match="holds 8 steps, more than the 4 asked for"):
        train(tiny_config(videos, steps=4, checkpoint_every=3), whole_run[0])


def test_all_changeable_fields_are_fields():
    assert CHANGEABLE < set(flatten(ExperimentConfig()))


def test_a_loss_that_is_not_finite_is_named_and_never_saved(videos, tmp_path):
    config = tiny_config(videos, steps=12, log_every=4, eval_every=12, checkpoint_every=3)
    config.optimizer.learning_rate = 1e25
    config.optimizer.clip_norm = 0.0
    with pytest.raises(NonFiniteError) as stopped:
        train(config, tmp_path)
    message = str(stopped.value)
    pattern = r"step (\d+): the loss is (\S+) and the norm of its gradient (\S+), at learning rate \S+\. .*: (.*?)\. No"
    match = re.match(pattern, message)
    assert match, message
    assert not np.isfinite(float(match[2])) or not np.isfinite(float(match[3]))
    clips = match[4].split(", ")
    assert len(clips) == 4
    assert all((videos / "train" / clip).is_file() for clip in clips)
    for step in (path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")):
        assert int(step) < int(match[1])


class Spoil(Hook):
    """Makes the state not finite after a step whose loss was."""

    def after_step(self, trainer: Trainer) -> None:
        if trainer.step == 3:
            stats = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), trainer.state.batch_stats)
            trainer.state = trainer.state.replace(batch_stats=stats)


def test_a_state_that_is_not_finite_is_not_saved(videos, tmp_path):
    with pytest.raises(NonFiniteError, match="after step 3 a parameter or a running statistic is not finite"):
        train(tiny_config(videos, checkpoint_every=3), tmp_path, Spoil())
    assert list((tmp_path / "checkpoints").glob("[0-9]*")) == []


def test_the_window_names_the_first_step_that_is_not_finite():
    window = MetricWindow(["a.mp4", "b.mp4", "c.mp4"])
    for step, loss in [(1, 0.5), (2, float("inf")), (3, float("nan"))]:
        metrics = {"loss": loss, "accuracy": 0.0, "grad_norm": 1.0, "learning_rate": 0.25}
        window.add(step, {name: jax.numpy.float32(value) for name, value in metrics.items()}, np.array([step - 1]))
    with pytest.raises(NonFiniteError, match=r"step 2: the loss is inf .* learning rate 0.25\. .*: b.mp4\."):
        window.check()


def test_the_window_averages_and_survives_json():
    def fill(window, losses):
        for loss in losses:
            metrics = {"loss": loss, "accuracy": 1.0, "grad_norm": 2.0, "learning_rate": loss / 8}
            window.add(1, {name: jax.numpy.float32(value) for name, value in metrics.items()}, np.array([0]))

    first, second = MetricWindow(["a"]), MetricWindow(["a"])
    fill(first, [1.0, 2.0])
    first.check()
    saved = first.state()
    fill(first, [9.0])  # what follows while a checkpoint is being written is not part of it
    first.check()
    second.restore(json.loads(json.dumps(saved)))
    fill(second, [6.0])
    assert second.take() == {"loss": 3.0, "accuracy": 1.0, "grad_norm": 2.0, "learning_rate": 0.75}
    assert second.state() == []


def test_a_broken_video_costs_its_sample_and_is_named(tmp_path, capsys):
    videos = write_videos(tmp_path / "videos")
    (videos / "train" / "dark" / "00.mp4").write_bytes(b"broken")
    (videos / "val" / "grey" / "01.mp4").write_bytes(b"broken")
    report = train(tiny_config(videos, steps=3), tmp_path / "run")
    assert len(report.labels) == 6
    assert report.undecoded == ("grey/01.mp4",)
    out = capsys.readouterr().out
    assert "1 videos could not be decoded and do not count: dark/00.mp4" in out
    assert "1 videos could not be decoded and do not count: grey/01.mp4" in out
    assert out.splitlines()[-1].endswith("/6 videos)")
    (row,) = map(json.loads, (tmp_path / "run" / "undecoded.jsonl").read_text().splitlines())
    assert row["name"] == "dark/00.mp4" and "Invalid data" in row["reason"]


def test_too_many_broken_videos_end_the_run(tmp_path):
    videos = write_videos(tmp_path / "videos")
    broken = sorted((videos / "train").rglob("*.mp4"))[::2]
    for path in broken:
        path.write_bytes(b"broken")
    with pytest.raises(RuntimeError, match=r"more than data.max_failures = 0.1 of the videos could not be decoded"):
        train(tiny_config(videos, steps=20), tmp_path / "run")
    lines = (tmp_path / "run" / "undecoded.jsonl").read_text().splitlines()
    assert {json.loads(line)["path"] for line in lines} <= set(map(str, broken)) and lines


def test_a_run_ends_where_no_validation_video_can_be_decoded(tmp_path):
    """As where a disk drops out: no checkpoint is ranked by nothing, and the run goes on when the videos are back."""
    videos = write_videos(tmp_path / "videos")
    whole = {path: path.read_bytes() for path in (videos / "val").rglob("*.mp4")}
    for path in whole:
        path.write_bytes(b"broken")
    config = tiny_config(videos, steps=3)
    with pytest.raises(RunError, match=r"all of the validation videos .*: 7 of 7, among them .*step 3"):
        train(config, tmp_path / "run")
    assert '"kind": "validation"' not in (tmp_path / "run" / "metrics.jsonl").read_text()
    for path, content in whole.items():
        path.write_bytes(content)
    assert len(train(config, tmp_path / "run").labels) == 7


def test_what_the_data_contradicts_is_refused_before_anything_is_written(videos, tmp_path):
    for change, message in [
        (("model", "num_classes", 2), "model.num_classes: is 2, but the data has 3 classes"),
        (("train", "batch_size", 16), "train.batch_size: is 16, more than the 12 training videos"),
    ]:
        config = tiny_config(videos)
        section, field, value = change
        setattr(getattr(config, section), field, value)
        with pytest.raises(ConfigError, match=message):
            train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_factors_of_the_rate_are_refused_before_anything_is_written(videos, tmp_path):
    config = tiny_config(videos)
    config.optimizer.rate_factors = ("haed=10",)
    with pytest.raises(ConfigError, match="haed=10 is of no parameter of this network"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_precise_statistics_of_norms_that_keep_none_are_refused(videos, tmp_path):
    config = tiny_config(videos, precise_statistics=2)
    config.model = TSN(depth=18, width=4, stem="small", num_classes=0, norm=DNRSpec(relay_distance=2, base=GroupNorm()))
    with pytest.raises(ConfigError, match="precise_statistics: is 2, but norms on gn keep no running statistics"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.compat
@pytest.mark.slow
def test_worker_processes_change_nothing(whole_run, videos, tmp_path):
    config = tiny_config(videos, checkpoint_every=3)
    config.data.num_workers = 1
    train(config, tmp_path)
    assert rows_without_time(tmp_path) == rows_without_time(whole_run[0])
    assert saved_bytes(tmp_path) == saved_bytes(whole_run[0])


def test_views_of_the_end_are_those_of_the_config(videos, tmp_path):
    config = tiny_config(videos, steps=2)
    config.evaluation.clips, config.evaluation.crops = 2, 3
    train(config, tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text())["views"] == "2x3 of 16"
