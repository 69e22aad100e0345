"""Small videos with known content."""

import numpy as np


def moving_frames(count: int, seed: int, height: int = 32, width: int = 48) -> np.ndarray:
    """A textured picture that moves by a pixel a frame, so that no two frames are alike."""
    texture = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    picture = texture.repeat(4, axis=0).repeat(4, axis=1)
    return np.stack([np.roll(picture, (t, 2 * t), axis=(0, 1)) for t in range(count)])
