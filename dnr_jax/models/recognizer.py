"""Recognisers: a backbone on frames and a head that turns its features into class scores."""

import chex
import flax.linen as nn
from jaxtyping import Array, Float

from dnr_jax.dnr.functional import statistics_dtype


class Recognizer(nn.Module):
    """A backbone on clips, of frames one by one or over time and space, and a head that scores its features.

    Attributes:
      backbone: maps ``[N, T, H, W, 3]`` to the features that the head takes.
      head: maps those features to scores.
    """

    backbone: nn.Module
    head: nn.Module

    def __call__(self, x: Float[Array, "n t h w 3"], *, train: bool) -> Float[Array, "n k"]:
        """Score clips.

        Args:
          x: frames ``[N, T, H, W, 3]``, normalised.
          train: training mode: batch statistics and dropout. Needs ``mutable=["batch_stats"]`` and a ``dropout`` key.

        Returns:
          Scores before the softmax ``[N, num_classes]``, float32 or wider.

        Raises:
          AssertionError: where ``x`` has another shape, such as views that were not taken apart.
          TypeError: for pixels that were not normalised.
        """
        statistics_dtype(x.dtype)
        chex.assert_shape(x, (None, None, None, None, 3), custom_message="clips must be [N, T, H, W, 3]")
        return self.head(self.backbone(x, train=train), train=train)
