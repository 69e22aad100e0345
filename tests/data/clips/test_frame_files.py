import cv2
import numpy as np
import pytest

from dnr_jax.data.catalogue import media
from dnr_jax.data.clips import decode, frame_files
from tests.data.videos import moving_frames, write_frames


def names(folder) -> list[str]:
    return frame_files.FrameFiles(str(folder)).names


def test_png_frames_are_read_as_they_are(tmp_path):
    frames = moving_frames(3, seed=1)
    write_frames(tmp_path, frames, "img_{:05d}.png")
    for source in (str(tmp_path), media.pack_frames(str(tmp_path))):
        for short_side in (0, 8):
            read, total = decode.decode_frames(source, np.arange, short_side)
            assert total == 3
            np.testing.assert_array_equal(read, frames)
    assert media.probe(media.pack_frames(str(tmp_path))).codec == "png"


def test_deep_and_transparent_png_files_are_read_in_eight_bits_of_three_colours(tmp_path):
    deep = np.full((16, 16), 40000, np.uint16)
    cv2.imwrite(str(tmp_path / "1.png"), deep)
    cv2.imwrite(str(tmp_path / "2.png"), np.full((16, 16, 4), 156, np.uint8))
    frames, _ = decode.decode_frames(str(tmp_path), np.arange)
    assert frames.shape == (2, 16, 16, 3) and frames.dtype == np.uint8 and (frames == 156).all()


def test_png_files_beside_jpeg_frames_are_no_frames(tmp_path):
    for name in ("1.jpg", "2.JPEG", "thumbnail.png"):
        (tmp_path / name).touch()
    assert names(tmp_path) == ["1.jpg", "2.JPEG"]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_hidden_files_and_flow_are_no_frames(tmp_path, suffix):
    others = ["._img_00001", ".hidden", "x_00001", "y_00001", "flow_x_00001", "flow_y_00001", "flow_00001", "Flow_x_2"]
    for name in ("img_00001", "img_00002", *others):
        (tmp_path / f"{name}.{suffix}").touch()
    assert names(tmp_path) == [f"img_00001.{suffix}", f"img_00002.{suffix}"]


def test_frames_that_are_called_x_are_frames_where_there_are_no_others(tmp_path):
    for number in (1, 2, 10):
        (tmp_path / f"x_{number}.jpg").touch()
        (tmp_path / f"flow_y_{number}.jpg").touch()
    assert names(tmp_path) == ["x_1.jpg", "x_2.jpg", "x_10.jpg"]


def test_a_folder_of_frames_may_be_called_like_a_video(tmp_path):
    folder = tmp_path / "v_ApplyEyeMakeup_g01_c01.avi"
    write_frames(folder, moving_frames(3, seed=1))
    assert frame_files.has_frame_files(str(folder))
    assert decode.decode_frames(str(folder), np.arange)[1] == 3
    assert media.probe(media.read_media(str(folder))).frames == 3


def test_what_has_frame_files(tmp_path):
    assert frame_files.has_frame_files(str(tmp_path)) and frame_files.has_frame_files(b"PK\x03\x04...")
    assert not frame_files.has_frame_files(str(tmp_path / "none")) and not frame_files.has_frame_files(b"RIFF")
    assert not frame_files.has_frame_files("gs://bucket/video.mp4")  # without a look-up
