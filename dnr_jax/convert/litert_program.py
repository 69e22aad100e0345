"""A trained network as a LiteRT (TFLite) program, by onnx2tf, and compared with the network before it is handed out."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

import numpy as np

from dnr_jax.config import ConfigError
from dnr_jax.convert.onnx_program import Score, difference, tolerated

CONVERTER = "onnx2tf"
"""Program that converts ONNX; its packages want exact versions, so it lives in an environment of its own."""
INSTALL = (
    "it wants an environment of its own with Python 3.12 or later, such as 'uv tool install onnx2tf' or 'pipx install "
    "onnx2tf' make, and to be on PATH"
)


def check_installed() -> None:
    """Raise ConfigError where the converter or LiteRT's runtime is missing."""
    if shutil.which(CONVERTER) is None:
        raise ConfigError(f"LiteRT needs the program {CONVERTER}, 2.6 or later, which is not on PATH; {INSTALL}")
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ConfigError(
            "LiteRT programs are run before they are written, by ai-edge-litert, which is not installed: pip install "
            "'dnr-jax[litert]'"
        )


def litert_program(onnx: bytes, score: Score, clip_shape: Sequence[int]) -> bytes:
    """Return an ONNX program as one of LiteRT, which was compared with the network.

    Args:
      onnx: from :func:`dnr_jax.convert.onnx_program.onnx_program`, with float32 kernels.
      score: the network.
      clip_shape: ``(T, H, W, 3)``.

    Returns:
      A FlatBuffer of operators that every LiteRT has. Its input is uint8 ``[1, T, H, W, 3]`` and can be resized to any
      number of clips; its output is float32 ``[N, K]``.

    Raises:
      ConfigError: where onnx2tf or LiteRT's runtime is missing or refuses the network, and where the program differs
        from the network by more than :data:`dnr_jax.convert.onnx_program.TOLERANCE`.
    """
    check_installed()
    program = _converted(onnx)
    check_program(program, score, clip_shape)
    return program


def _converted(onnx: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "network.onnx").write_bytes(onnx)
        # The input keeps its axes (-kat); the program stays one for any batch, which its simplifier would fix (-nuo).
        command = [CONVERTER, "-i", "network.onnx", "-o", "out", "-kat", "clips", "-nuo"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
        program = pathlib.Path(folder) / "out" / "network_float32.tflite"
        if done.returncode or not program.is_file():
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            raise ConfigError(f"{CONVERTER} cannot convert this network (exit status {done.returncode}): ...{said}")
        return program.read_bytes()


def check_program(program: bytes, score: Score, clip_shape: Sequence[int]) -> float:
    """Return how far a LiteRT program's probabilities are from those of the function that it was made of, at most.

    Batches of one and of three clips of noise are scored by both.

    Raises:
      ConfigError: where that is more than :data:`dnr_jax.convert.onnx_program.TOLERANCE`, or LiteRT does not run the
        program.
    """
    from ai_edge_litert.interpreter import Interpreter

    def run(clips: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], clips.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], clips)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result["index"]))

    try:
        interpreter = Interpreter(model_content=program)
        (given,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
        largest = difference(run, score, clip_shape)
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise ConfigError(f"LiteRT does not run the converted network: {said}; --forms onnx may") from error
    return tolerated(largest)
