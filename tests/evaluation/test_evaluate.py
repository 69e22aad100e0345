import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dnr_jax.config import ConfigError, EvaluationConfig
from dnr_jax.data.catalogue.sources import load_sources
from dnr_jax.data.clips.container import decode_in_order
from dnr_jax.data.clips.pipeline import load_clip
from dnr_jax.evaluation.evaluate import Report, evaluate, undecoded_note, views
from dnr_jax.evaluation.predict import Prediction, Predictor, predict
from dnr_jax.runs.devices import make_mesh
from dnr_jax.runs.folder import load_run
from dnr_jax.runs.inference import normalize
from tests.training.tiny import tiny_config, write_videos


class Constant(nn.Module):
    """Always prefers class 1."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        return jnp.zeros((x.shape[0], 3)).at[:, 1].set(1.0)


class Brightness(nn.Module):
    """Knows the classes of the tiny videos: dark, grey, light."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        level = jnp.mean(x, axis=(1, 2, 3, 4))[:, None]
        return -jnp.square(level - jnp.array([[-1.4, 0.0, 1.4]]))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
@pytest.mark.parametrize("num_devices", [1, 4])
def test_every_video_counts_once_whatever_the_batch(videos, batch_size, num_devices):
    """Seven videos: three dark, two grey, two light."""
    config = tiny_config(videos)
    config.evaluation.batch_size = batch_size
    _, source = load_sources(config.data)
    report = evaluate(Constant(), {}, source, config, make_mesh(jax.devices()[:num_devices]))
    assert report.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert report.names == source.names
    assert (report.correct, report.top1, report.top5) == (2, 2 / 7, 1.0)
    assert report.mean_class_accuracy == pytest.approx(1 / 3)
    assert report.confusion.tolist() == [[0, 3, 0], [0, 2, 0], [0, 2, 0]]
    assert str(report) == "validation top-1 28.6% (2/7 videos)"


def test_scores_belong_to_their_videos(videos):
    config = tiny_config(videos)
    _, source = load_sources(config.data)
    report = evaluate(
        Brightness(), {}, source, config, make_mesh(jax.devices()[:2]), EvaluationConfig(clips=2, crops=3)
    )
    assert report.top1 == 1.0
    np.testing.assert_allclose(report.scores.sum(axis=1), 1, rtol=1e-6)


def test_a_video_that_cannot_be_decoded_is_named_and_does_not_count(tmp_path):
    config = tiny_config(write_videos(tmp_path))
    (tmp_path / "val" / "dark" / "00.mp4").write_bytes(b"no video")
    _, source = load_sources(config.data)
    report = evaluate(Brightness(), {}, source, config, make_mesh(jax.devices()[:1]))
    assert str(report) == "validation top-1 100.0% (6/6 videos)"
    assert report.undecoded == ("dark/00.mp4",)
    assert undecoded_note(report.undecoded) == "1 videos could not be decoded and do not count: dark/00.mp4"
    assert undecoded_note(()) == ""


def test_a_report_is_written(tmp_path):
    scores, labels = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]], np.array([0, 1, 2, 2])
    report = Report(scores, labels, ("a", "b", "c", "d"), ("x", "y", "z"), undecoded=("e",))
    report.write(tmp_path, step=5, views="10x3 of 256")
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert (written["step"], written["views"], written["top1"], written["correct"]) == (5, "10x3 of 256", 0.75, 3)
    assert written["classes"]["z"] == {"correct": 1, "videos": 2}
    assert written["undecoded_videos"] == ["e"]
    assert (tmp_path / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_views_are_named_as_in_result_tables():
    assert views(EvaluationConfig(clips=10, crops=3, crop_size=256), 224) == "10x3 of 256"
    assert views(EvaluationConfig(), 224) == "1x1 of 224"


def test_a_loaded_run_scores_as_it_did(workdir, videos):
    mesh = make_mesh(jax.devices()[:1])
    run = load_run(workdir, mesh)
    assert (run.step, run.classes) == (60, ("dark", "grey", "light"))
    _, source = load_sources(run.config.data)
    report = evaluate(run.model, run.variables, source, run.config, mesh)
    assert report.top1 == json.loads((workdir / "evaluation.json").read_text())["top1"]


def test_the_best_checkpoint_is_the_best_row(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    scored = [(row["top1"], row["step"]) for row in rows if row["kind"] == "validation"]
    assert load_run(workdir, make_mesh(jax.devices()[:1]), "best").step == max(scored)[1]


def test_what_is_not_a_run_is_refused(tmp_path, workdir):
    mesh = make_mesh(jax.devices()[:1])
    with pytest.raises(ConfigError, match="there is no folder"):
        load_run(tmp_path / "none", mesh)
    with pytest.raises(ConfigError, match="holds no config.json"):
        load_run(tmp_path, mesh)
    for name in ("config.json", "classes.txt"):
        (tmp_path / name).write_text((workdir / name).read_text())
    for _ in range(2):  # without, and with an empty folder of checkpoints
        with pytest.raises(ConfigError, match="holds no checkpoint yet"):
            load_run(tmp_path, mesh)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)


def test_predictions_are_the_scores_of_the_network(workdir, videos):
    path = str(videos / "val" / "light" / "02.mp4")
    (prediction,) = predict(workdir, [path], top=2, views=(2, 1))
    run = load_run(workdir, make_mesh(jax.devices()[:1]))
    clips = load_clip(path, run.config.data, EvaluationConfig(clips=2))
    variables = jax.tree.map(jnp.asarray, jax.device_get(run.variables))
    logits = run.model.apply(variables, normalize(jnp.asarray(clips), run.config.data), train=False)
    expected = np.mean(jax.nn.softmax(logits), axis=0)
    order = np.argsort(-expected)[:2]
    assert prediction.labels == tuple(run.classes[i] for i in order)
    np.testing.assert_allclose(prediction.scores, expected[order], rtol=2e-5)


@pytest.mark.slow
def test_a_predictor_compiles_once_for_videos_of_any_kind_and_size(workdir, videos):
    predictor = Predictor(workdir, top=2)
    path = videos / "val" / "light" / "02.mp4"
    frames = list(decode_in_order(str(path)))
    array = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    large = np.full((30, 100, 200, 3), 128, np.uint8)
    of_path, of_bytes, of_array, of_large = predictor([path, path.read_bytes(), array, large])
    assert len(of_path.labels) == 2
    for prediction in (of_bytes, of_array):
        assert (prediction.labels, prediction.scores) == (of_path.labels, of_path.scores)
    assert not of_large.error
    assert predictor._step._cache_size() == 1
    assert Predictor(predictor.run, top=2)(path) == of_path


def test_a_broken_video_has_a_reason_and_the_others_have_labels(workdir, videos, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    good = videos / "val" / "dark" / "00.mp4"
    first, second, third = predict(workdir, [good, broken, tmp_path / "missing.mp4"])
    assert len(first.labels) == len(first.scores) == 3
    assert not first.error
    assert second.labels == third.labels == ()
    assert "broken.mp4" in second.error
    assert "missing.mp4" in third.error


def test_a_prediction_reads_well():
    prediction = Prediction("a.mp4", ("jump", "run"), (0.75, 0.25))
    assert str(prediction).splitlines() == ["a.mp4", "   75.0%  jump", "   25.0%  run"]
    failed = dataclasses.replace(prediction, labels=(), error="a.mp4: no frame could be decoded")
    assert str(failed) == "cannot decode a.mp4: no frame could be decoded"
