"""Names of types that several modules share."""

from typing import Annotated, Any

import jax.numpy as jnp

from dnr_jax.dnr.fields import Where

FloatDtype = Annotated[Any, Where("a floating-point dtype", lambda dtype: jnp.issubdtype(dtype, jnp.floating))]
