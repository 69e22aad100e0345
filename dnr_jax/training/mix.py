"""Mixup and CutMix on the device: every clip of a batch gets a part of another one, and its label the same part.

The definitions are MMAction2's ``MixupBlending`` and ``CutmixBlending``: one draw a batch, partners by a permutation of
it, and the same pixels in all frames of a clip. Both are one operation, a share of the partner for each pixel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PRNGKeyArray

from dnr_jax.config import TrainConfig


class Mixture(NamedTuple):
    """How the clips of a batch are mixed.

    Attributes:
      partner: int32 ``[B]``, the clip that each one is mixed with: a permutation.
      share: float32 ``[B, H, W]``, the partner's share of each pixel, from 0 to 1.
      label_share: float32 ``[B]``, the mean of that.
    """

    partner: jax.Array
    share: jax.Array
    label_share: jax.Array

    def video(self, video: Num[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """Return the mixed clips, float32 ``[B, T, H, W, C]``, of ``video`` of the same shape and any type."""
        return _blend(
            video.astype(jnp.float32), video[self.partner].astype(jnp.float32), self.share[:, None, ..., None]
        )


def draw_mixture(
    key: PRNGKeyArray, weight: Float[Array, " b"], size: tuple[int, int], config: TrainConfig
) -> Mixture | None:
    """Draw how a batch is mixed.

    With mixup the partner's share of all pixels is ``1 - l``, where ``l`` has the distribution Beta(a, a). With CutMix
    it is 1 in a box of ``1 - l`` of the frame's area, and 0 outside; what of the box lies outside of the frame is cut.

    Args:
      key: The step's random key.
      weight: float32 ``[B]``. A partner of weight 0, a video that could not be decoded, gets no share.
      size: Height and width of the frames.
      config: ``mixup`` and ``cutmix`` are the ``a`` of each; where both are on, ``cutmix_probability`` says which one.
        ``mix_probability`` is the share of the batches that are mixed.

    Returns:
      The draw, or None where both are off.
    """
    if not (config.mixup or config.cutmix):
        return None
    keys = jax.random.split(key, 5)
    cutmix_probability = config.cutmix_probability if config.mixup and config.cutmix else float(config.cutmix > 0)
    cut = jax.random.bernoulli(keys[0], cutmix_probability)
    # A distribution that is never chosen needs a parameter that exists.
    alpha = jnp.where(cut, config.cutmix or 1.0, config.mixup or 1.0)
    kept = jax.random.beta(keys[1], alpha, alpha)
    box = _box(keys[2], 1 - kept, size)
    share, label_share = (jnp.where(cut, part, 1 - kept) for part in (box, jnp.mean(box)))
    partner = jax.random.permutation(keys[3], weight.shape[0])
    mixed = jax.random.bernoulli(keys[4], config.mix_probability) & (weight[partner] > 0)
    return Mixture(partner, jnp.where(mixed[:, None, None], share[None], 0.0), jnp.where(mixed, label_share, 0.0))


def mixed_labels(
    own: Float[Array, "b k"], partners: Float[Array, "b k"], share: Float[Array, " b"]
) -> Float[Array, "b k"]:
    """Return mixed labels ``[B, K]``: the partner's have the share ``[B]`` that it has of the pixels."""
    return _blend(own, partners, share.astype(own.dtype)[:, None])


def _blend(own: Float[Array, "*m"], other: Float[Array, "*m"], share: Float[Array, "*#m"]) -> Float[Array, "*m"]:
    return own + share * (other - own)


def _box(key: PRNGKeyArray, area: Float[Array, ""], size: tuple[int, int]) -> Float[Array, "h w"]:
    """Return 1 inside of a random box of that share of the area, 0 outside: float32 ``[H, W]``."""
    inside = []
    for side, side_key in zip(size, jax.random.split(key), strict=True):
        half = (side * jnp.sqrt(area)).astype(jnp.int32) // 2
        centre = jax.random.randint(side_key, (), 0, side)
        places = jnp.arange(side)
        inside.append((places >= centre - half) & (places < centre + half))
    return (inside[0][:, None] & inside[1][None]).astype(jnp.float32)
