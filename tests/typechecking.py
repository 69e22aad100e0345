"""Shapes and dtypes in signatures, checked while the tests run."""

from typing import Any

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# Those that clips and features go through. Modules that refuse wrong values in words of their own are left to do so.
# So is training.step, because former releases of chex spell its trees in a way that cannot be checked.
MODULES = [
    "dnr_jax.dnr.functional",
    *(f"dnr_jax.dnr.bases.{name}" for name in ("base", "batch", "clip", "switchable")),
    *(f"dnr_jax.models.{name}" for name in ("blocks", "heads", "inception", "layers", "r2plus1d", "residual")),
    *(f"dnr_jax.models.{name}" for name in ("resnet", "slowfast", "stems", "tanet", "tdn")),
    "dnr_jax.training.ema",
    "dnr_jax.training.mix",
    "dnr_jax.training.state",
    "dnr_jax.runs.inference",
]
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Any) -> Any:
    """Check a function; but not how a dataclass is made, whose fields the validation checks, in its own words."""
    return function if function.__name__ == "__init__" else _check(function)


def install() -> None:
    """Check the functions of :data:`MODULES` when they are called; before any of these is imported."""
    install_import_hook(MODULES, "tests.typechecking.checked")
