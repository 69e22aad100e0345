"""``dnr features``: a run's validation videos as points in the plane, on a page to look at."""

import argparse
import concurrent.futures
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dnr_jax import console
from dnr_jax.arguments import add_checkpoint, path_from, whole
from dnr_jax.config import ConfigError
from dnr_jax.progress import Progress, stage

if TYPE_CHECKING:  # commands start before jax is imported
    import numpy as np

    from dnr_jax.config import VideoSource
    from dnr_jax.explain import Explainer

FILE = "features.html"
_DESCRIPTION = """\
Draw a run's validation videos as points in the plane (t-SNE), which are neighbours where the network finds them alike:
coloured by class, those taken for another class with a ring, with the clip of the one under the pointer. Writes
features.html, one file that needs no network. Needs scikit-learn (pip install 'dnr-jax[features]').
"""


def add(commands: Any) -> None:
    """Add the command to those of ``dnr``."""
    parser = commands.add_parser(
        "features",
        help="draw which validation videos of a run the network finds alike",
        description=_DESCRIPTION,
        epilog=console.EXIT_STATUS,
    )
    parser.add_argument("workdir", type=path_from, metavar="RUN", help="work directory of a training run")
    parser.add_argument("--layer", default="", metavar="NAME", help="layer; default: what the head reads")
    parser.add_argument("--limit", type=whole(4), default=600, metavar="N", help="videos, evenly spaced (default: 600)")
    parser.add_argument("--root", type=path_from, metavar="FOLDER", help="where the videos are; default: as in the run")
    parser.add_argument("--out", default="", metavar="FOLDER", help="folder to write to; default: the run's")
    add_checkpoint(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the page; return the exit status.

    Raises:
      ConfigError: for whatever a person has to correct, before anything is compiled.
    """
    out = pathlib.Path(console.local_folder("--out", args.out) if args.out else args.workdir)
    with stage("importing"):
        import jax

        from dnr_jax.evaluation.videos import open_data
        from dnr_jax.explain import Explainer, embedding
        from dnr_jax.explain.layers import find_layer
        from dnr_jax.explain.pictures import evenly
        from dnr_jax.runs.devices import make_mesh
        from dnr_jax.runs.folder import load_run

        embedding.check_installed()
    with stage("loading the network"):
        explainer = Explainer(load_run(args.workdir, make_mesh(jax.local_devices()[:1]), args.checkpoint))
        try:
            find_layer(explainer.layers, args.layer)
        except ValueError as error:
            raise ConfigError(f"--layer: {error}; 'dnr explain RUN --list-layers' lists them") from error
    source = open_data(explainer.run, paths={"root": args.root})
    out.mkdir(parents=True, exist_ok=True)
    shown = evenly(len(source), args.limit)
    found = list(_features(explainer, args.layer, source, shown))
    if len(found) < 4:
        raise ConfigError(f"{len(found)} validation videos could be read; a picture of what is alike needs 4 or more")
    with stage("arranging the points"):
        positions = embedding.project([features for _, features, _, _ in found])
    classes, points = explainer.run.classes, []
    for (index, _, predicted, film), (x, y) in zip(found, positions.tolist(), strict=True):
        label = classes[source.labels[index]]
        points.append(embedding.Point(source.names[index], label, classes[predicted], x, y, film))
    title = f"Validation videos of {explainer.run.workdir.name or explainer.run.workdir.resolve().name}"
    target = out / FILE
    target.write_text(embedding.page(title, points), encoding="utf-8")
    part = f" of {len(source)}" if len(shown) < len(source) else ""
    print(f"wrote {target}: {len(points)}{part} videos, {target.stat().st_size / 1e6:.1f} MB")
    return 0 if len(found) == len(shown) else 1


def _features(
    explainer: "Explainer", layer: str, source: "VideoSource", shown: Sequence[int]
) -> Iterator[tuple[int, "np.ndarray", int, bytes]]:
    """Yield position, features ``[C]``, predicted class and film of each video that can be decoded."""
    import numpy as np

    from dnr_jax.data.clips.cores import available_cores
    from dnr_jax.explain import embedding

    size, read = explainer.batch_size, _reader(explainer, source)
    first = "reading clips and compiling the network"
    with (
        concurrent.futures.ThreadPoolExecutor(available_cores()) as pool,
        Progress(len(shown), "features", "video", first=first) as progress,
    ):
        for start in range(0, len(shown), size):
            some = shown[start : start + size]
            clips = {}
            for index, clip in zip(some, pool.map(read, some), strict=True):
                if isinstance(clip, str):
                    progress.print(f"cannot decode {source.names[index]}: {clip}", sys.stderr)
                else:
                    clips[index] = clip
            if clips:
                batch = np.resize(np.stack(list(clips.values())), (size, *next(iter(clips.values())).shape))
                features, probabilities = explainer.features(batch, layer)  # one shape, one program
                predicted = probabilities.argmax(axis=1)
                for i, (index, clip) in enumerate(clips.items()):
                    yield index, features[i], int(predicted[i]), embedding.film(clip)
            progress.update(len(some))


def _reader(explainer: "Explainer", source: "VideoSource") -> Callable[[int], "np.ndarray | str"]:
    """Return what reads the clip of a video, uint8 ``[T, H, W, 3]``, or says why it cannot."""
    from dnr_jax.config import with_views
    from dnr_jax.data.clips.decode import DecodeError
    from dnr_jax.data.clips.pipeline import load_clip

    data = explainer.run.config.data
    evaluation = with_views(explainer.run.config.evaluation, (1, 1))

    def read(index: int) -> "np.ndarray | str":
        try:
            return load_clip(source.media(index), data, evaluation)[0]
        except DecodeError as error:
            return str(error)
        except Exception as error:  # whatever it is: the other videos have nothing to do with it
            return f"{type(error).__name__}: {error}"

    return read
