"""Which frames of a video make a clip: pure functions of the number of frames.

The numbers are those of MMAction2's ``SampleFrames`` (``clip_len=L, frame_interval=I, num_clips=1`` for dense sampling;
``clip_len=1, frame_interval=1, num_clips=T`` for segments), with its way of treating short videos: indices past the end
wrap around to the start. All functions return int64 ``[clips, frames]``; within a clip, indices rise until they wrap.
"""

import numpy as np


def dense_train(num_frames: int, clip_len: int, interval: int, rng: np.random.Generator) -> np.ndarray:
    """Frames ``interval`` apart from a random start.

    Args:
      num_frames: Frames in the video, at least 1.
      clip_len: Frames in the clip, L.
      interval: Distance between the clip's frames, in frames of the video.
      rng: Draws the start, uniformly over those that leave room for ``L * interval`` frames; 0 in a shorter video.

    Returns:
      int64 ``[1, L]``.
    """
    start = rng.integers(max(num_frames - clip_len * interval + 1, 1))
    return (start + np.arange(clip_len)[None] * interval) % num_frames


def segments_train(num_frames: int, num_segments: int, rng: np.random.Generator) -> np.ndarray:
    """One random frame from each of equal segments (TSN).

    Args:
      num_frames: Frames in the video, at least 1. With fewer than ``num_segments`` nothing is random: the frames are
        spread over the segments, each repeated about equally often.
      num_segments: Frames in the clip, T.
      rng: Draws one offset a segment. The ``num_frames % T`` frames at the end are never drawn, as in MMAction2.

    Returns:
      int64 ``[1, T]``.
    """
    length = num_frames // num_segments
    segments = np.arange(num_segments)[None]
    if length:
        return segments * length + rng.integers(length, size=segments.shape)
    return np.round(segments * (num_frames / num_segments)).astype(np.int64) % num_frames


def dense_test(num_frames: int, clip_len: int, interval: int, num_clips: int) -> np.ndarray:
    """Clips of frames ``interval`` apart, the first at the video's start and the last at its end, evenly spaced.

    Args:
      num_frames: Frames in the video, at least 1.
      clip_len: Frames in a clip, L. A clip of one frame has no extent: the clips are then the centres of segments.
      interval: Distance between a clip's frames, in frames of the video.
      num_clips: Clips; a single one lies in the middle.

    Returns:
      int64 ``[num_clips, L]``.
    """
    if clip_len == 1:
        return segments_test(num_frames, num_clips, 1).T
    room = max(num_frames - (clip_len - 1) * interval - 1, 0)
    if num_clips == 1:
        starts = np.array([room // 2])
    else:
        starts = np.round(np.arange(num_clips) * (room / (num_clips - 1))).astype(np.int64)
    return (starts[:, None] + np.arange(clip_len) * interval) % num_frames


def segments_test(num_frames: int, num_segments: int, num_clips: int) -> np.ndarray:
    """One frame from each of equal segments: its centre, or evenly spaced positions in it for several clips.

    MMAction2 has one clip here (or two, with ``twice_sample``); more are this module's: clip v of V takes the position
    ``(v + 1/2) / V`` of each segment.

    Args:
      num_frames: Frames in the video, at least 1.
      num_segments: Frames in a clip, T.
      num_clips: Clips, V.

    Returns:
      int64 ``[V, T]``.
    """
    length = num_frames / num_segments
    offsets = (np.arange(num_clips)[:, None] + 0.5) / num_clips
    return (np.arange(num_segments) * length + length * offsets).astype(np.int64)
