"""The README beside an exported network: what the files are, and a short program for each form."""

import itertools
from collections.abc import Sequence

from dnr_jax.config import DataConfig, ExperimentConfig, Sampler
from dnr_jax.runs.folder import CLASSES_FILE, CONFIG_FILE

WEIGHTS_FILE = "weights.safetensors"
JAX_FILE = "network.jax_export"
ONNX_FILE = "network.onnx"
LITERT_FILE = "network.tflite"
README_FILE = "README.md"
_LONG = 10**6
"""Frames of a video in which a clip that does not span it is short."""

_README = """\
# A video recognition network

{network} with {count} classes, trained with [dnr_jax](https://github.com/dnr-jax/dnr_jax). What stands here runs
without that package:

{files}

A program maps `clips`, uint8 `[N, {frames}, {side}, {side}, 3]` (frames, rows, columns; red, green, blue) for any N, to
probabilities, float32 `[N, {count}]`, in the order of `{classes}`. The normalisation of the pixels is inside{rounding}.

Choosing frames, resizing and cropping are not inside. The code below takes frames {sampling} and the square in
the middle of each. `dnr predict` does more: it averages several views where the run's configuration says so, turns
frames upright, resizes with another filter, and reads damaged files. Expect probabilities that are close, not the same.
{programs}"""

_PROGRAM = """
## {title}

```bash
pip install {packages}
python label.py video.mp4
```

```py
import sys

import av
{imports}

{load}
classes = open("{classes}", encoding="utf-8").read().splitlines()


def square(frame, side={side}):
    scale = {scale}
    height, width = max(side, round(frame.height * scale)), max(side, round(frame.width * scale))
    pixels = frame.to_ndarray(format="rgb24", height=height, width=width)
    return pixels[(height - side) // 2 :, (width - side) // 2 :][:side, :side]


frames = [square(frame) for frame in av.open(sys.argv[1]).decode(video=0)]
{picked}
clips = np.stack([frames[i] for i in picked])[None]
{score}
for i in np.argsort(-probabilities)[:5]:
    print(f"{{probabilities[i]:6.1%}}  {{classes[i]}}")
```
"""

_LOAD_JAX = f"""with open("{JAX_FILE}", "rb") as file:
    network = jax.export.deserialize(bytearray(file.read()))"""

_LOAD_LITERT = f"""network = Interpreter("{LITERT_FILE}")
(given,), (result,) = network.get_input_details(), network.get_output_details()"""
_SCORE_LITERT = """network.resize_tensor_input(given["index"], clips.shape)
network.allocate_tensors()
network.set_tensor(given["index"], clips)
network.invoke()
probabilities = network.get_tensor(result["index"])[0]"""


def readme(config: ExperimentConfig, classes: Sequence[str], files: Sequence[str], weights: str) -> str:
    """Return the text of the README of an exported network.

    Args:
      config: of the run.
      classes: names of the classes.
      files: names of the files beside it, those of the programs among them.
      weights: how the programs hold the kernels.
    """
    about = {
        WEIGHTS_FILE: "the weights, float32, under the names of dnr_jax",
        JAX_FILE: "the network as a program of `jax.export`, for CPU, CUDA and TPU",
        ONNX_FILE: "the network as a program of ONNX",
        LITERT_FILE: "the network as a program of LiteRT (TFLite)",
        CLASSES_FILE: "names of the classes, one a line",
        CONFIG_FILE: "the configuration of the run",
    }
    programs = {
        JAX_FILE: _program(
            config.data,
            title="With JAX",
            packages="av flatbuffers jax numpy",
            imports="import jax.export\nimport numpy as np",
            load=_LOAD_JAX,
            score="probabilities = np.asarray(network.call(clips))[0]",
        ),
        ONNX_FILE: _program(
            config.data,
            title="With ONNX Runtime",
            packages="av numpy onnxruntime",
            imports="import numpy as np\nimport onnxruntime",
            load=f'network = onnxruntime.InferenceSession("{ONNX_FILE}")',
            score='probabilities = network.run(None, {"clips": clips})[0][0]',
        ),
        LITERT_FILE: _program(
            config.data,
            title="With LiteRT",
            packages="ai-edge-litert av numpy",
            imports="import numpy as np\nfrom ai_edge_litert.interpreter import Interpreter",
            load=_LOAD_LITERT,
            score=_SCORE_LITERT,
        ),
    }
    kernels = {"float32": "", "bfloat16": "to bfloat16", "int8": "to 8 bits, with a scale for each output channel"}[
        weights
    ]
    return _README.format(
        network=type(config.model).__name__,
        count=len(classes),
        classes=CLASSES_FILE,
        files="\n".join(f"- `{name}`: {text}" for name, text in about.items() if name in (WEIGHTS_FILE, *files)),
        frames=config.data.clip_shape[0],
        side=config.data.crop_size,
        rounding=f"; kernels are rounded {kernels}, and the arithmetic is that of the network" if kernels else "",
        sampling="from the whole video" if _spans(config.data.sampler) else "from the middle of the video",
        programs="".join(text for name, text in programs.items() if name in files),
    )


def _program(data: DataConfig, **parts: str) -> str:
    needed = max(data.short_side, data.crop_size)
    shorter = "min(frame.height, frame.width)"
    scale = f"{needed} / {shorter}" if data.short_side else f"max(1, side / {shorter})"
    return _PROGRAM.format(
        side=data.crop_size, scale=scale, picked=_picked(data.sampler), classes=CLASSES_FILE, **parts
    )


def _spans(sampler: Sampler) -> bool:
    """Return whether a clip spans the video, however long it is."""
    short, long = (sampler.test(_Frames(frames), 1)[0] for frames in (_LONG, 2 * _LONG))
    return bool(long[-1] - long[0] > short[-1] - short[0])


class _Frames(int):
    """A number of frames, of a video whose rate is not known."""

    rate = 0.0


def _picked(sampler: Sampler) -> str:
    """Return the lines that choose a clip: a frame, or several, from each of equal parts of the video or its middle."""
    parts, each = sampler.num_frames, sampler.clip_frames // sampler.num_frames
    room, loops = "span", f"for i in range({parts})"
    if each > 1:
        room, loops = f"max(span - {each - 1}, 0)", f"{loops} for j in range({each})"
    place = f"start + int((i + 0.5) * {room} / {parts})"
    if each > 1:
        place = f"min({place} + j, len(frames) - 1)"
    span = "len(frames)"
    if not _spans(sampler):
        indices = sampler.test(_Frames(_LONG), 1)[0]
        steps = [int(later - earlier) for earlier, later in itertools.pairwise(indices)]
        span = f"min(len(frames), {round(sum(steps) * parts / max(len(steps), 1)) or 1})"
    return f"span = {span}\nstart = (len(frames) - span) // 2\npicked = [{place} {loops}]"
