"""``dnr explain``: videos with maps laid over them, and the same clips through two networks side by side."""

import argparse
import dataclasses
import difflib
import pathlib
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dnr_jax import console
from dnr_jax.arguments import add_checkpoint, path_from
from dnr_jax.config import ConfigError, expand_path
from dnr_jax.data.catalogue.folders import EXPLAINED
from dnr_jax.progress import Progress, stage

if TYPE_CHECKING:  # commands start before jax is imported
    import numpy as np

    from dnr_jax.explain import Explainer, Explanation
    from dnr_jax.runs.folder import Run

METHODS = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "occlusion": "occlusion",
    "frames": "hidden frames",
}
_DESCRIPTION = """\
Show where in videos a network sees a class: beside each video, or in --out, NAME.explained.mp4 has the clip that the
network looks at on the left, and on the right with a map over it; NAME.explained.png is a strip of its frames. With
--compare the first two folders are runs, and NAME.explained.png has the maps of both, layer by layer.
"""
_EPILOG = f"""\
methods:
  gradcam    features of a layer, weighed by the gradients of the score (one pass forward and back)
  gradcam++  the same, which shows several places of the same kind more evenly
  occlusion  how much the log-probability falls where a part of the clip is hidden (hundreds of passes)
  frames     the same for whole frames (one pass a frame)

{console.EXIT_STATUS}"""


def add(commands: Any) -> None:
    """Add the command to those of ``dnr``."""
    parser = commands.add_parser(
        "explain",
        help="show where in videos a network sees a class",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("workdir", type=path_from, metavar="RUN", help="work directory of a training run")
    parser.add_argument(
        "videos",
        nargs="*",
        type=expand_path,  # an empty one costs none of the others
        metavar="VIDEO",
        help="video file or address, folder of frames, or folder with videos at any depth; with --compare RUN VIDEO...",
    )
    parser.add_argument("--method", choices=METHODS, default="gradcam", help="see below (default: gradcam)")
    parser.add_argument(
        "--layer", default="", metavar="NAME", help="layer whose features are shown; default: those that the head reads"
    )
    parser.add_argument(
        "--list-layers",
        action="store_true",
        help="list the layers of the network, or those that both have; do nothing else",
    )
    parser.add_argument(
        "--class",
        dest="label",
        default="",
        metavar="NAME",
        help="class to look for; default: the one that is predicted",
    )
    parser.add_argument("--compare", action="store_true", help="compare two runs, whose folders come first")
    parser.add_argument("--out", default="", metavar="FOLDER", help="folder to write to; default: beside each video")
    parser.add_argument("--format", choices=("mp4", "gif"), default="mp4", help="of the videos (default: mp4)")
    add_checkpoint(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks for; return the exit status.

    Raises:
      ConfigError: for whatever a person has to correct, before anything is compiled.
    """
    with stage("importing"):
        from dnr_jax.evaluation.inputs import find_videos

    folders = [args.workdir, *args.videos[: args.compare]]
    given = args.videos[args.compare :]
    _refuse(args, given, len(folders))
    out = console.local_folder("--out", args.out) if args.out else ""
    runs = [_Asked.load(folder, args) for folder in folders]
    if args.list_layers:
        print("\n".join(_listing(*runs)))
        return 0
    layers = _stages(*runs) if args.compare and not args.layer else [args.layer]
    videos = list(dict.fromkeys(find_videos(given)))
    if out:
        pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    targets = dict(_targets(videos, out))
    failures = 0
    with Progress(len(videos), "explaining", "video", first="compiling the network") as progress:
        for video in videos:
            try:
                text = (
                    _compare(runs, layers, video, targets[video])
                    if args.compare
                    else _explain(runs[0], video, targets[video], args.format)
                )
                progress.print(text)
            except Exception as error:  # whatever it is: the videos behind this one have nothing to do with it
                failures += 1
                progress.print(_reason(video, error), sys.stderr)
            progress.update()
    return 1 if failures else 0


def _refuse(args: argparse.Namespace, videos: Sequence[str], runs: int) -> None:
    """Refuse what has no effect, and what is missing."""
    if args.compare and (runs < 2 or not args.videos[0]):
        raise ConfigError("--compare needs two runs: dnr explain --compare RUN RUN VIDEO...")
    if args.compare and (args.method not in ("gradcam", "gradcam++") or args.format != "mp4"):
        raise ConfigError("--compare writes pictures of gradcam or gradcam++; leave out --method or --format")
    if args.layer and args.method not in ("gradcam", "gradcam++"):
        raise ConfigError(f"--layer has no effect with --method {args.method}, which looks at the clip alone")
    if not videos and not args.list_layers:
        raise ConfigError("there is no video to explain: dnr explain RUN VIDEO...")


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A network, and what is asked of it.

    Attributes:
      explainer: of the network.
      method: a key of :data:`METHODS`.
      layer: by name; empty: what the head reads.
      label: class to look for; None: the one that is predicted.
    """

    explainer: "Explainer"
    method: str
    layer: str
    label: int | None

    @classmethod
    def load(cls, folder: str, args: argparse.Namespace) -> "_Asked":
        """Load a run; raises ConfigError where it is none, or has no such class or layer."""
        with stage("loading the network"):
            import jax

            from dnr_jax.explain import Explainer
            from dnr_jax.explain.layers import find_layer
            from dnr_jax.runs.devices import make_mesh
            from dnr_jax.runs.folder import load_run

            run = load_run(folder, make_mesh(jax.local_devices()[:1]), args.checkpoint)
            explainer = Explainer(run)
            label = find_class(run, args.label) if args.label else None
            try:
                find_layer(explainer.layers, args.layer)
            except ValueError as error:
                raise ConfigError(f"--layer: {error}; --list-layers lists them") from error
        return cls(explainer, args.method, args.layer, label)

    def clip(self, video: str) -> "np.ndarray":
        """Read the clip that the network looks at, uint8 ``[T, H, W, 3]``."""
        from dnr_jax.config import with_views
        from dnr_jax.data.clips.pipeline import load_clip
        from dnr_jax.evaluation.inputs import local_file

        config = self.explainer.run.config
        with local_file(video) as file:
            return load_clip(file, config.data, with_views(config.evaluation, (1, 1)))[0]

    def explanation(self, clip: "np.ndarray") -> "Explanation":
        """Explain a clip."""
        if self.method == "occlusion":
            return self.explainer.occlusion(clip, self.label)
        if self.method == "frames":
            return self.explainer.frame_importance(clip, self.label)
        return self.explainer.grad_cam(clip, self.label, self.layer, plus=self.method == "gradcam++")

    def seen(self, explanation: "Explanation") -> str:
        """Return the class of the map and its probability, and the predicted one where that is another."""
        classes, (label,), (scores,) = self.explainer.run.classes, explanation.classes, explanation.probabilities
        text = f"{classes[label]} {scores[label]:.1%}"
        best = scores.argmax()
        return text if best == label else f"{text} (predicted: {classes[best]} {scores[best]:.1%})"


def find_class(run: "Run", name: str) -> int:
    """Return the number of a class.

    Raises:
      ConfigError: where the run has no such class, naming the nearest.
    """
    if name in run.classes:
        return run.classes.index(name)
    nearest = difflib.get_close_matches(name, run.classes, n=3, cutoff=0.0)
    raise ConfigError(f"--class: '{run.workdir}' has no class {name!r}; the nearest are {', '.join(nearest)}")


def _listing(*runs: _Asked) -> Iterator[str]:
    """Yield a line for each layer that all networks have: the frames, rows, columns and channels of its features."""
    first, *others = [run.explainer.layers for run in runs]
    common = [name for name in first if all(name in layers for layers in others)]
    width = max(map(len, common), default=0)
    for name in common:
        yield f"{name:<{width}}  " + ", ".join("x".join(map(str, shape[1:])) for shape in first[name].shapes)


def _stages(*runs: _Asked) -> list[str]:
    """Return the stages that all networks have: the layers of the backbone that are made of layers.

    Raises:
      ConfigError: where they have none in common.
    """
    first, *others = [run.explainer.layers for run in runs]
    stages = [name for name in first if name.count("/") == 1 and any(other.startswith(f"{name}/") for other in first)]
    if common := [name for name in stages if all(name in layers for layers in others)]:
        return common
    raise ConfigError("the networks have no stage in common; --layer names a layer of both")


def _targets(videos: Sequence[str], out: str) -> Iterator[tuple[str, pathlib.Path]]:
    """Yield for each video the path, without a suffix, of what is written: no two alike, whatever the folders."""
    taken: set[pathlib.Path] = set()
    for video in videos:
        remote = "://" in video
        path = pathlib.PurePath(urllib.parse.urlsplit(video).path if remote else video)
        folder = pathlib.Path(out or ("." if remote or video == "-" else path.parent))
        stem = "stdin" if video == "-" else path.stem or "video"
        target, number = folder / f"{stem}{EXPLAINED}", 1
        while target in taken:
            number += 1
            target = folder / f"{stem}-{number}{EXPLAINED}"
        taken.add(target)
        yield video, target


def _explain(asked: _Asked, video: str, target: pathlib.Path, form: str) -> str:
    """Write the map of a video; return what to print."""
    from dnr_jax.data.clips.decode import encode_video
    from dnr_jax.explain import pictures

    clip = asked.clip(video)
    found = asked.explanation(clip)
    (values,), (shares,) = found.maps, found.frame_shares
    frames, fps = pictures.side_by_side(clip, values), max(len(clip) // 3, 2)
    moving, strip = f"{target}.{form}", f"{target}.png"
    if form == "gif":
        pictures.save_gif(moving, frames, fps)
    else:
        encode_video(moving, frames, fps, options={"crf": "18"})
    seen = asked.seen(found)
    where = f" at {asked.layer or list(asked.explainer.layers)[-1]}" if asked.method.startswith("gradcam") else ""
    pictures.save_strip(strip, f"{seen}\n{METHODS[asked.method]}{where}", clip, values)
    importance = " ".join(f"{share:.0%}" for share in shares)
    found_in = f"share of each frame: {importance}" if shares.any() else "nothing in this clip speaks for the class"
    return f"{video}\n  {seen}\n  {found_in}\n  wrote {moving} and {strip}"


def _compare(runs: Sequence[_Asked], layers: Sequence[str], video: str, target: pathlib.Path) -> str:
    """Write the picture of the maps of several networks; return what to print."""
    from dnr_jax.explain import pictures

    columns = []
    for asked in runs:
        clip = asked.clip(video)
        found = asked.explainer.grad_cams(clip, layers, asked.label, plus=asked.method == "gradcam++")
        seen = asked.seen(found[layers[0]])
        maps = {layer: explanation.maps[0] for layer, explanation in found.items()}
        columns.append(pictures.Column(f"{asked.explainer.run.workdir.name}: {seen}", clip, maps))
    pictures.save_comparison(f"{target}.png", columns)
    return "\n  ".join([video, *(column.title for column in columns), f"wrote {target}.png"])


def _reason(video: str, error: Exception) -> str:
    from dnr_jax.data.clips.decode import DecodeError

    if isinstance(error, DecodeError):
        return f"cannot decode {error}"
    if isinstance(error, OSError) and error.filename:
        return f"{video}: cannot write {error.filename} ({error.strerror})"
    return f"{video}: {type(error).__name__}: {error}"
