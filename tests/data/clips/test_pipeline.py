import dataclasses
import gc
import logging
import os
import pathlib
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

from dnr_jax.config import DataConfig, EvaluationConfig, RandAugment, RunError
from dnr_jax.data.catalogue import prepare, sources
from dnr_jax.data.clips import decode, pipeline, sampling, transforms
from dnr_jax.data.clips.sampling import Dense, Linspace, Segments, Window
from dnr_jax.data.clips.transforms import CenterCrop
from tests.data.clips.broken import with_broken
from tests.data.videos import moving_frames, write_frames
from tests.paths import REPOSITORY


@pytest.fixture
def train(data):
    return sources.load_sources(data)[0]


@pytest.fixture
def val(data):
    return sources.load_sources(data)[1]


@pytest.fixture(autouse=True)
def forget_warnings():
    pipeline._warn_once.cache_clear()


def take(source, data, count, batch_size=4, seed=0, **kwargs):
    with pipeline.train_iterator(source, data, batch_size, seed, **kwargs) as batches:
        return [next(batches) for _ in range(count)]


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_training_batches_have_the_documented_shapes(train, data):
    (batch,) = take(train, data, 1)
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        "video": ((4, 3, 16, 16, 3), np.uint8),
        "label": ((4,), np.int32),
        "index": ((4,), np.int64),
        "failed": ((4,), np.int64),
        "weight": ((4,), np.float32),
    }
    np.testing.assert_array_equal(batch["label"], train.labels[batch["index"]])
    np.testing.assert_array_equal(batch["failed"], [-1] * 4)
    np.testing.assert_array_equal(batch["weight"], [1] * 4)


def test_a_training_clip_is_one_that_sampling_and_transform_can_give(train, data):
    """Without augmentation a clip is determined by its start, and must be one of the possible ones."""
    plain = dataclasses.replace(data, crop=CenterCrop(), flip=False)
    transform = transforms.TrainTransform(plain.short_side, plain.crop_size, plain.crop, flip=False)
    for batch in take(train, plain, 4):
        for video, index in zip(batch["video"], batch["index"], strict=True):
            frames, total = decode.decode_frames(train.paths[index], np.arange)
            starts = range(max(total - 3 * 2 + 1, 1))
            possible = [transform(frames[(start + np.arange(3) * 2) % total], 0, None)[0] for start in starts]
            assert any(np.array_equal(video, clip) for clip in possible)


def test_segments_are_sampled_on_request(train, data):
    plain = dataclasses.replace(data, sampler=Segments(5), crop=CenterCrop(), flip=False)
    transform = transforms.TrainTransform(plain.short_side, plain.crop_size, plain.crop, flip=False)
    for batch in take(train, plain, 2):
        for video, index in zip(batch["video"], batch["index"], strict=True):
            frames, total = decode.decode_frames(train.paths[index], np.arange)
            everything = transform(frames, 0, None)[0]
            for segment, picture in enumerate(video):
                candidates = everything[segment * (total // 5) : (segment + 1) * (total // 5)]
                assert any(np.array_equal(picture, candidate) for candidate in candidates)


def test_an_epoch_shows_different_videos_and_the_next_another_order(train, data):
    batches = take(train, data, 6)  # 11 videos in batches of 4: an epoch has 2 steps
    epochs = [np.concatenate([b["index"] for b in batches[i : i + 2]]).tolist() for i in (0, 2, 4)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert len(set(sum(epochs, []))) > 8  # the videos left over change


def test_random_numbers_differ_between_epochs_and_seeds(train, data):
    one = dataclasses.replace(train, paths=train.paths[-1:], labels=train.labels[-1:], names=train.names[-1:])
    videos = [batch["video"].tobytes() for batch in take(one, data, 20, batch_size=1)]
    assert len(set(videos)) > 10
    other = [batch["video"].tobytes() for batch in take(one, data, 20, batch_size=1, seed=1)]
    assert videos != other


def augmented(data):
    return dataclasses.replace(
        data,
        crop=transforms.RandomResizedCrop(),
        color_jitter=(0.4, 0.4, 0.4, 0.1),
        rand_augment=RandAugment(layers=2),
    )


def test_augmented_batches_are_a_function_of_seed_and_step(train, data):
    whole = take(train, augmented(data), 6)
    workers = dataclasses.replace(augmented(data), num_workers=2, num_threads=1)
    assert_same(take(train, workers, 4, start_step=2), whole[2:])
    assert len({batch["video"].tobytes() for batch in whole}) == 6


def test_a_mirrored_video_has_the_label_of_its_mirror_image(train, data):
    train = dataclasses.replace(train, classes=("move left", "move right", "stay"))
    plain = dataclasses.replace(data, crop=CenterCrop(), sampler=Segments(1), short_side=0)
    still, flipped = (dataclasses.replace(plain, flip=flip) for flip in (False, True))
    unchanged = set()
    for index in range(len(train)):
        rng = [np.random.default_rng(index) for _ in range(2)]
        expected, actual = (
            pipeline._TrainReader(train, d)(index, r) for d, r in zip((still, flipped), rng, strict=True)
        )
        mirrored = not np.array_equal(actual["video"], expected["video"])
        label = train.labels[index]
        assert actual["label"] == ((1, 0, 2)[label] if mirrored else label) and actual["label"].dtype == np.int32
        unchanged.add(mirrored)
    assert unchanged == {False, True}


@pytest.mark.parametrize("fields", [{"num_threads": 1}, {"num_threads": 5}, {"num_workers": 2, "num_threads": 1}])
def test_threads_and_workers_do_not_change_the_batches(train, data, fields):
    assert_same(take(train, dataclasses.replace(data, **fields), 5), take(train, data, 5))


@pytest.mark.parametrize(
    ("threads", "workers", "cores", "expected"),
    [
        (0, 0, 2, (2, 0)),
        (0, 0, 128, (16, 0)),
        (0, 4, 32, (8, 4)),
        (0, 4, 2, (1, 4)),
        (3, 2, 64, (3, 2)),
        (0, -1, 15, (15, 0)),
        (0, -1, 16, (8, 2)),
        (0, -1, 128, (8, 16)),
        (2, -1, 32, (2, 4)),
    ],
)
def test_threads_and_workers_follow_from_the_cores(threads, workers, cores, expected):
    data = DataConfig(num_threads=threads, num_workers=workers)
    assert pipeline.threads_and_workers(data, cores) == expected


def test_the_number_of_cores_decides_on_workers(train, data, monkeypatch):
    class Started(Exception):
        pass

    def start(num_workers, **options):
        raise Started(num_workers)

    monkeypatch.setattr(pipeline, "available_cores", lambda: 32)
    monkeypatch.setattr(pipeline.grain, "MultiprocessingOptions", start)
    with pytest.raises(Started, match="4"):
        take(train, dataclasses.replace(data, num_workers=-1), 1)


def test_start_step_resumes_exactly(train, data):
    whole = take(train, data, 7)
    for step in (1, 2, 5):
        assert_same(take(train, data, 7 - step, start_step=step), whole[step:])


@pytest.mark.parametrize("start_step", [0, 3])
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_processes_share_the_batches_of_one(train, data, start_step, workers):
    whole = take(train, data, 4, start_step=start_step)
    data = dataclasses.replace(data, num_workers=workers)
    parts = [
        take(train, data, 4, batch_size=2, start_step=start_step, process_index=process, process_count=2)
        for process in range(2)
    ]
    for process, part in enumerate(parts):
        rows = slice(2 * process, 2 * process + 2)
        assert_same(part, [{key: value[rows] for key, value in batch.items()} for batch in whole])


def test_training_needs_a_batch_of_videos(train, data):
    with pytest.raises(ValueError, match=r"a batch of 12 clips \(6 in each of 2 processes\).* there are 11"):
        pipeline.train_iterator(train, data, 6, seed=0, process_count=2)


def test_training_batches_have_no_length(train, data):
    with pipeline.train_iterator(train, data, 2, seed=0) as batches, pytest.raises(TypeError, match="no end"):
        len(batches)


def test_a_broken_training_video_is_replaced_by_the_next(train, data, tmp_path, caplog):
    broken = with_broken(train, {3, 4}, tmp_path)
    with caplog.at_level(logging.WARNING):
        batches = take(broken, data, 10)
    drawn = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    intended = np.concatenate([batch["index"] for batch in take(train, data, 10)])
    assert {3, 4} <= set(intended.tolist())
    np.testing.assert_array_equal(drawn["failed"], np.where(np.isin(intended, [3, 4]), intended, -1))
    np.testing.assert_array_equal(drawn["index"], np.where(np.isin(intended, [3, 4]), 5, intended))
    np.testing.assert_array_equal(drawn["label"], train.labels[drawn["index"]])
    np.testing.assert_array_equal(drawn["weight"], np.ones(40))
    warned = [record.getMessage() for record in caplog.records]
    assert sorted(message.split()[2] for message in warned) == sorted(train.names[3:5])  # once each
    assert all("Invalid data" in message for message in warned)
    assert_same(take(broken, dataclasses.replace(data, num_threads=1), 10), batches)


def test_a_training_video_without_a_substitute_weighs_nothing(train, data, tmp_path):
    broken = with_broken(train, set(range(11)), tmp_path)
    (batch,) = take(broken, data, 1)
    np.testing.assert_array_equal(batch["weight"], [0] * 4)
    np.testing.assert_array_equal(batch["failed"], batch["index"])
    assert batch["video"].shape == (4, 3, 16, 16, 3) and not batch["video"].any()


def evaluate(source, data, evaluation=None, batch_size=2, **kwargs):
    with pipeline.evaluation_iterator(source, data, evaluation or EvaluationConfig(), batch_size, **kwargs) as batches:
        return list(batches)


def test_evaluation_shows_every_video_once_and_pads_the_last_batch(val, data):
    batches = evaluate(val, data)
    assert [batch["index"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, -1]]
    assert [batch["weight"].tolist() for batch in batches] == [[1, 1], [1, 1], [1, 0]]
    assert not batches[-1]["video"][1].any()
    for batch in batches:
        real = batch["index"] >= 0
        np.testing.assert_array_equal(batch["label"][real], val.labels[batch["index"][real]])
        assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
            "video": ((2, 1, 3, 16, 16, 3), np.uint8),
            "label": ((2,), np.int32),
            "index": ((2,), np.int64),
            "failed": ((2,), np.int64),
            "weight": ((2,), np.float32),
        }


def test_evaluation_knows_its_length(val, data):
    for batch_size, expected in [(1, 5), (2, 3), (5, 1), (8, 1)]:
        with pipeline.evaluation_iterator(val, data, EvaluationConfig(), batch_size) as batches:
            assert len(batches) == expected


@pytest.mark.parametrize("count", [2, 3])
def test_processes_divide_the_evaluation(val, data, count):
    whole = {i: video for batch in evaluate(val, data) for i, video in zip(batch["index"], batch["video"], strict=True)}
    parts = [evaluate(val, data, process_index=process, process_count=count) for process in range(count)]
    assert len({len(part) for part in parts}) == 1
    shown = [
        (index, video)
        for part in parts
        for batch in part
        for index, video, weight in zip(batch["index"], batch["video"], batch["weight"], strict=True)
        if weight
    ]
    assert sorted(index for index, _ in shown) == [0, 1, 2, 3, 4]
    for index, video in shown:
        np.testing.assert_array_equal(video, whole[index])


def test_workers_do_not_change_the_evaluation(val, data):
    assert_same(evaluate(val, dataclasses.replace(data, num_workers=2)), evaluate(val, data))


SAMPLERS = {
    # name: the sampler, the frames of training, the frames of two clips
    "dense": (
        Dense(3, 2),
        lambda n, rng: sampling.dense_train(n, 3, 2, rng),
        lambda n: sampling.dense_test(n, 3, 2, 2),
    ),
    "jitter": (
        Dense(3, 4, jitter=True, out_of_bound="repeat_last"),
        lambda n, rng: sampling.dense_train(n, 3, 4, rng, jitter=True, out_of_bound="repeat_last"),
        lambda n: sampling.dense_test(n, 3, 4, 2, "repeat_last"),
    ),
    "segments": (
        Segments(3),
        lambda n, rng: sampling.segments_train(n, 3, rng),
        lambda n: sampling.segments_test(n, 3, 2),
    ),
    "snippets": (
        Segments(3, frames_per_segment=2),
        lambda n, rng: sampling.snippets_train(n, 3, 2, rng),
        lambda n: sampling.snippets_test(n, 3, 2, 2),
    ),
    "window": (
        Window(3, window=6),
        lambda n, rng: sampling.window_train(n, 3, 6, rng),
        lambda n: sampling.window_test(n, 3, 6, 2),
    ),
    "linspace": (
        Linspace(3, 2),
        lambda n, rng: sampling.linspace_train(n, 3, 2, rng),
        lambda n: sampling.linspace_test(n, 3, 2, 2),
    ),
    "linspace_at_30_fps": (  # of videos with 25
        Linspace(3, 3, target_fps=30.0),
        lambda n, rng: sampling.linspace_train(n, 3, 2.5, rng),
        lambda n: sampling.linspace_test(n, 3, 2.5, 2),
    ),
}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_training_clip_has_the_frames_that_its_sampling_draws(kind, train, data):
    sampler, draw, _ = SAMPLERS[kind]
    plain = dataclasses.replace(data, crop=CenterCrop(), flip=False, sampler=sampler)
    reader = pipeline._TrainReader(train, plain)
    for index, path in enumerate(train.paths):
        frames, total = decode.decode_frames(path, np.arange)
        expected = transforms.TestTransform(24, 16)(frames[draw(total, np.random.default_rng(index)).ravel()])[0]
        sample = reader(index, np.random.default_rng(index))
        assert sample["video"].shape == plain.clip_shape
        np.testing.assert_array_equal(sample["video"], expected)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_views_are_the_crops_of_each_clip_in_turn(kind, val, data):
    sampler, _, clips_of = SAMPLERS[kind]
    data = dataclasses.replace(data, sampler=sampler)
    (batch,) = evaluate(val, data, EvaluationConfig(clips=2, crops=3, crop_size=20), batch_size=5)
    assert batch["video"].shape == (5, 6, data.clip_shape[0], 20, 20, 3)
    for path, views in zip(val.paths, batch["video"], strict=True):
        frames, total = decode.decode_frames(path, np.arange)
        crops = transforms.TestTransform(24, 20, 3)
        np.testing.assert_array_equal(views, np.concatenate([crops(frames[clip]) for clip in clips_of(total)]))


@pytest.mark.parametrize("kind", ["segments", "dense"])
def test_twice_sample_doubles_the_clips(kind, val, data):
    data = dataclasses.replace(data, sampler=SAMPLERS[kind][0])
    (batch,) = evaluate(val, data, EvaluationConfig(twice_sample=True), batch_size=5)
    assert batch["video"].shape[:2] == (5, 2)
    for path, views in zip(val.paths, batch["video"], strict=True):
        frames, total = decode.decode_frames(path, np.arange)
        twice = {
            "segments": sampling.segments_test(total, 3, 1, twice=True),
            "dense": sampling.dense_test(total, 3, 2, 2),
        }
        crop = transforms.TestTransform(24, 16)
        np.testing.assert_array_equal(views, np.concatenate([crop(frames[clip]) for clip in twice[kind]]))


def test_load_clip_reads_what_the_evaluation_reads(val, data):
    evaluation = EvaluationConfig(clips=2, crops=3)
    (batch,) = evaluate(val, data, evaluation, batch_size=5)
    for path, views in zip(val.paths, batch["video"], strict=True):
        np.testing.assert_array_equal(pipeline.load_clip(path, data, evaluation), views)
        np.testing.assert_array_equal(pipeline.load_clip(pathlib.Path(path).read_bytes(), data, evaluation), views)


def test_load_clip_names_a_broken_video(data, tmp_path):
    with pytest.raises(decode.DecodeError, match="nowhere.mp4"):
        pipeline.load_clip(str(tmp_path / "nowhere.mp4"), data, EvaluationConfig())


def test_a_broken_evaluation_video_weighs_nothing(val, data, tmp_path):
    batches = evaluate(with_broken(val, {1}, tmp_path), data)
    assert [batch["weight"].tolist() for batch in batches] == [[1, 0], [1, 1], [1, 0]]
    assert [batch["failed"].tolist() for batch in batches] == [[-1, 1], [-1, -1], [-1, -1]]
    assert not batches[0]["video"][1].any() and batches[0]["video"][0].any()


def test_evaluation_crops_are_checked(val, data):
    with pytest.raises(ValueError, match="crops is 2"):
        pipeline.load_clip(val.paths[0], data, EvaluationConfig(crops=2))


@pytest.mark.parametrize("close", [pipeline.BatchIterator.close, lambda batches: None], ids=["closed", "left alone"])
def test_no_iterator_of_grain_outlives_its_owner(close, val, data):
    """Grain's finalizer fails, with a message on the screen, where the interpreter finds the iterator at its end."""
    batches = pipeline.evaluation_iterator(val, data, EvaluationConfig(), 2)
    next(batches)
    inner = weakref.ref(batches._open[0])
    close(batches)
    del batches
    gc.collect()
    assert inner() is None


def test_a_closed_iterator_says_so(val, data):
    batches = pipeline.evaluation_iterator(val, data, EvaluationConfig(), 2)
    batches.close()
    with pytest.raises(ValueError, match="the iterator is closed"):
        next(batches)


def test_a_worker_killed_for_lack_of_shared_memory_is_explained(val, data, monkeypatch):
    class Killed:
        def __next__(self):
            raise RuntimeError("Worker process was terminated unexpectedly with exit code -7.")

    batches = pipeline.evaluation_iterator(val, data, EvaluationConfig(), 2)
    with batches, monkeypatch.context() as patch:
        patch.setattr(batches, "_open", [Killed()])
        with pytest.raises(RunError, match="/dev/shm.* is too small.*data.num_workers to 0"):
            next(batches)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files on this system")
def test_closed_iterators_leave_no_file_open(train, data):
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    take(train, data, 2)
    before = open_files()
    for _ in range(3):
        take(train, data, 2)
    deadline = time.monotonic() + 10  # a thread that was decoding when the iterator was closed finishes its video
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_files() <= before


def run_python(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_flags_need_not_be_parsed(video_folder):
    """Outside absl.app nobody parses flags; a user of the library must not notice."""
    program = f"""
from dnr_jax.config import DataConfig
from dnr_jax.data.clips.sampling import Dense
from dnr_jax.data.catalogue import sources
from dnr_jax.data.clips import pipeline
data = DataConfig(source=sources.Folder({str(video_folder)!r}), sampler=Dense(2), crop_size=8, num_threads=1)
with pipeline.train_iterator(sources.load_sources(data)[0], data, 2, seed=0) as batches:
    print(next(batches)["video"].shape)
"""
    assert run_python(program) == "(2, 2, 8, 8, 3)"


def test_importing_the_package_loads_no_reader():
    readers = {"av", "cv2", "grain", "tensorflow_datasets"}
    assert run_python(f"import sys, dnr_jax, dnr_jax.data; print({readers} & set(sys.modules))") == "set()"


def assert_files_and_records_give_the_same(files: DataConfig, catalogue: sources.Catalogue, out: pathlib.Path):
    """Training and evaluation, with threads and, from records, with worker processes."""
    prepared = prepare.prepare(catalogue, str(out), shard_videos=7)
    recorded = dataclasses.replace(files, source=sources.Records(prepared.folder))
    from_files, from_records = sources.load_sources(files), sources.load_sources(recorded)
    assert from_records[0].classes == from_files[0].classes
    expected = take(from_files[0], files, 4)
    assert_same(take(from_records[0], recorded, 4), expected)
    assert_same(take(from_records[0], dataclasses.replace(recorded, num_workers=1), 4), expected)
    assert_same(evaluate(from_records[1], recorded, batch_size=4), evaluate(from_files[1], files, batch_size=4))


def test_the_demo_gives_the_same_batches_from_files_and_from_records(data, tmp_path):
    files = dataclasses.replace(data, source=sources.Demo(16, 8, str(tmp_path / "demo")))
    assert_files_and_records_give_the_same(files, files.source.open(), tmp_path / "records")


def test_real_lists_give_the_same_batches_from_files_and_from_records(data, shared, tmp_path):
    root = str(shared / "data" / "weizmann4")
    files = dataclasses.replace(data, source=sources.Lists.of_folder(root, root), short_side=40, crop_size=32)
    assert_files_and_records_give_the_same(files, files.source.open(), tmp_path / "records")


def test_large_jpeg_frames_are_read_at_the_size_that_the_crop_needs(data, tmp_path, monkeypatch):
    """``data.short_side``, or the crop where it is larger; 0 is the size that they have."""
    write_frames(tmp_path, moving_frames(6, seed=1, height=200, width=280))
    heights: dict[int, set[int]] = {}  # by what was asked for: threads still read ahead when the next round begins
    original = pipeline.decode_frames

    def spy(source, pick, short_side):
        frames, total = original(source, pick, short_side)
        heights.setdefault(short_side, set()).add(frames.shape[1])
        return frames, total

    monkeypatch.setattr(pipeline, "decode_frames", spy)
    for short_side, crop_size in [(24, 16), (26, 16), (101, 16), (24, 60), (0, 16)]:
        fields = dataclasses.replace(data, short_side=short_side)
        pipeline.load_clip(str(tmp_path), fields, EvaluationConfig(crop_size=crop_size))
        source = sources.VideoSource((str(tmp_path),), np.zeros(1, np.int32), ("x",), ("a",))
        take(source, dataclasses.replace(fields, crop_size=crop_size), 1, batch_size=1)
    assert heights == {24: {25}, 26: {50}, 101: {200}, 60: {100}, 0: {200}}


def test_a_broken_record_is_replaced_as_a_broken_file_is(train, data, tmp_path):
    records = [b"no video" if i in (3, 4) else pathlib.Path(path).read_bytes() for i, path in enumerate(train.paths)]
    batches = take(dataclasses.replace(train, records=records), data, 6)
    assert_same(batches, take(with_broken(train, {3, 4}, tmp_path), data, 6))
    assert any(np.any(batch["failed"] >= 0) for batch in batches)
