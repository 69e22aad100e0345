"""Draws ``augmentations.jpg`` for ``docs/data.md``: a clip of the demo, and what each option makes of it.

python docs/images/draw_augmentations.py
"""

import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from dnr_jax.config import DataConfig, RandAugment, TrainConfig
from dnr_jax.data.catalogue.demo import CLASSES, make_demo
from dnr_jax.data.catalogue.sources import scan_folder
from dnr_jax.data.clips import sampling
from dnr_jax.data.clips.decode import decode_frames
from dnr_jax.data.clips.transforms import CenterCrop, MultiScaleCrop, RandomResizedCrop, TrainTransform
from dnr_jax.training.mix import draw_mixture

FRAMES, SIDE, SEED = 5, 64, 3  # with this seed, the row of flip shows a mirror image
PLAIN = {"short_side": SIDE, "crop_size": SIDE, "crop": CenterCrop(), "flip": False}
OPTIONS = {
    "no option": {},
    "MultiScaleCrop": {"crop": MultiScaleCrop()},
    "RandomResizedCrop": {"crop": RandomResizedCrop()},
    "flip": {"flip": True},
    "rand_augment\n(4 layers)": {"rand_augment": RandAugment(layers=4)},
    "color_jitter\n(.5, .5, .5, .1)": {"color_jitter": (0.5, 0.5, 0.5, 0.1)},
}
MIXES = {"mixup (0.8)": TrainConfig(mixup=0.8), "cutmix (1)": TrainConfig(cutmix=1.0)}


def load_clips() -> tuple[np.ndarray, np.ndarray]:
    """Return clips of two classes of the generated videos, uint8 ``[T, H, W, 3]``."""
    with tempfile.TemporaryDirectory() as folder:
        source = scan_folder(f"{make_demo(folder, len(CLASSES), len(CLASSES), size=SIDE)}/train")
        first, *_, last = (
            decode_frames(path, lambda total: sampling.segments_test(total, FRAMES, 1))[0] for path in source.paths
        )
    return first, last


def rows() -> dict[str, np.ndarray]:
    """Return the clip under each option."""
    clip, other = load_clips()
    shown = {}
    for name, fields in OPTIONS.items():
        transform = TrainTransform.from_config(DataConfig(**PLAIN | fields), CLASSES)
        shown[name], _ = transform(clip, 0, np.random.default_rng(SEED))
    for name, config in MIXES.items():
        for seed in range(SEED, 1000):  # the first draw in which the two clips have shares of similar size
            mixture = draw_mixture(jax.random.key(seed), jnp.ones(2), (SIDE, SIDE), config)
            if mixture.partner[0] == 1 and 0.3 < mixture.label_share[0] < 0.5:
                break
        shown[name] = np.asarray(mixture.video(jnp.stack([clip, other]))[0]).astype(np.uint8)
    return shown


def main() -> None:
    """Draw one row for each option."""
    shown = rows()
    figure = Figure(figsize=(1.1 * FRAMES + 1.7, 1.12 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), FRAMES)
    for line, (name, clip) in zip(axes, shown.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for cell, frame in zip(line, clip, strict=True):
            cell.imshow(frame)
            cell.set(xticks=[], yticks=[])
    figure.savefig(
        pathlib.Path(__file__).with_name("augmentations.jpg"), dpi=70, pil_kwargs={"quality": 80, "optimize": True}
    )


if __name__ == "__main__":
    main()
