"""The relays of a network over time and depth, as a picture."""

import io
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dnr_jax.config import ExperimentConfig
from dnr_jax.explain.relays import inspector, plot_relays
from dnr_jax.runs.inference import normalize


class RelayMaps:
    """Draws what the relays of a network predict, with variables that may change; the network is compiled once."""

    def __init__(self, model: nn.Module, config: ExperimentConfig):
        """Draw ``model``, whose pixels are normalised as ``config`` says."""
        self._data, self._dtype = config.data, jnp.dtype(config.model.dtype)
        self._inspect = inspector(model)

    def draw(self, variables: Mapping[str, Any], clips: np.ndarray) -> bytes:
        """Return the picture :func:`dnr_jax.explain.relays.plot_relays` draws, a PNG; empty: there is no relay.

        It is computed on one device of this process, which may be one of several.

        Args:
          variables: ``params`` and ``batch_stats``, of which this process has all.
          clips: uint8 ``[N, T, H, W, 3]``.
        """
        with jax.default_device(jax.local_devices()[0]):
            pixels = normalize(jnp.asarray(clips), self._data, self._dtype)
            traces = self._inspect(jax.device_get(dict(variables)), pixels)
        if not traces:
            return b""
        file = io.BytesIO()
        plot_relays(traces, file)
        return file.getvalue()
