"""The ``dnr`` command: prepare and check data; evaluate, use, convert, export and profile networks.

Modules that take long to import are imported by the subcommand that needs them, so that ``dnr --help`` does not wait.
"""

import argparse
import pathlib
import re
import sys
from collections.abc import Sequence

from etils import epath

from dnr_jax.config import ConfigError, with_views
from dnr_jax.data.parallel import available_cores


def _views(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x(1|3|10)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not CLIPSxCROPS, such as 10x3 (crops: 1, 3 or 10)")
    return int(match[1]), int(match[2])


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dnr", description="Video action recognition with DNR.")
    commands = parser.add_subparsers(dest="command", required=True)
    evaluate = commands.add_parser("evaluate", help="score the validation videos of a run")
    evaluate.add_argument("--batch-size", type=_positive, help="videos a step; default: as in the run's configuration")
    _add_evaluated_data(evaluate)
    predict = commands.add_parser("predict", help="label video files")
    predict.add_argument("--top", type=_positive, default=5, help="labels a video (default: 5)")
    predict.add_argument("videos", nargs="+", metavar="VIDEO", help="video file of any format that FFmpeg reads")
    for command in (evaluate, predict):
        command.add_argument("--workdir", required=True, help="work directory of a training run")
        command.add_argument("--checkpoint", choices=("latest", "best"), default="latest")
        command.add_argument(
            "--views", type=_views, metavar="CLIPSxCROPS", help="views of a video, such as 10x3; default: as in the run"
        )
    profile = commands.add_parser("profile", help="parameters, multiply-accumulates, memory and latency of networks")
    what = profile.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", metavar="FILE[:ARGUMENT]", help="configuration whose network is profiled")
    what.add_argument("--all", action="store_true", help="all networks, on clips of 224 x 224 pixels")
    profile.add_argument("--size", type=_positive, metavar="PIXELS", help="height and width of the clip")
    profile.add_argument(
        "--repeats",
        type=_count,
        default=5,
        metavar="N",
        help="clips scored for the latency (default: 5); 0: counts only",
    )
    profile.add_argument("--markdown", action="store_true", help="print a Markdown table, with times as ratios only")
    convert = commands.add_parser("convert", help="turn weights of any source into a file of another code base")
    convert.add_argument("source", help="file of weights (.safetensors, .pth, .pt, .pyth), or work directory of a run")
    convert.add_argument("target", help="file to write: .safetensors, or .pth with torch installed")
    convert.add_argument("--config", metavar="FILE[:ARGUMENT]", help="the network; default: what the source says")
    convert.add_argument("--to", default="own", metavar="CODE", help="code base whose names are written (default: own)")
    convert.add_argument("--naming", default="", metavar="CODE", help="code base of the source; default: recognised")
    convert.add_argument("--allow", default="", metavar="LIST", help="what may differ, such as head,relays")
    convert.add_argument(
        "--relays", choices=("fresh", "batch_norm"), default="fresh", help="how relays start that the source lacks"
    )
    convert.add_argument("--checkpoint", choices=("latest", "best"), default="latest", help="of a work directory")
    export = commands.add_parser("export", help="write a trained network as files that run without this package")
    export.add_argument("--workdir", required=True, help="work directory of a training run")
    export.add_argument("--out", required=True, metavar="FOLDER", help="folder to write")
    export.add_argument("--checkpoint", choices=("latest", "best"), default="latest")
    convert.set_defaults(run=_convert)
    export.set_defaults(run=_export)
    evaluate.set_defaults(run=_evaluate)
    profile.set_defaults(run=_profile)
    predict.set_defaults(run=_predict)
    _add_data_commands(commands)
    return parser


def _add_evaluated_data(evaluate: argparse.ArgumentParser) -> None:
    data = evaluate.add_argument_group("data", "other videos than the run's, or its own where they were moved to")
    data.add_argument("--root", help="folder of the videos")
    data.add_argument("--list", metavar="FILE", help="annotation file of the videos to score")
    data.add_argument("--label-map", metavar="FILE", help="names of the classes that a list gives by number")
    data.add_argument("--annotations", metavar="FOLDER", help="annotation files of a public data set")
    data.add_argument("--split", default="val", help="which videos of the data (default: val)")
    data.add_argument(
        "--source",
        choices=("list", "folder", "dataset", "records"),
        help="what the data is, as data.source; default: list with --list, otherwise as in the run",
    )
    data.add_argument("--out", metavar="FOLDER", help="folder for the report; default: the run's")


def _size(text: str) -> int | tuple[int, int]:
    """A short side, or the height and width that a text WIDTHxHEIGHT names."""
    if text.isdecimal():
        return int(text)
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match or int(match[1]) % 2 or int(match[2]) % 2:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a short side, such as 256, nor an even size like 340x256"
        )
    return int(match[2]), int(match[1])


def _add_data_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    prepare = commands.add_parser("prepare", help="write a data set as records, with a card that describes it")
    prepare.add_argument(
        "name", metavar="NAME", help="kinetics400, ucf101, ...; or folder, or list, for your own videos"
    )
    prepare.add_argument("--out", required=True, help="folder for the records")
    prepare.add_argument(
        "--reencode", choices=("none", "access"), default="none", help="access: for fast random access"
    )
    prepare.add_argument(
        "--size",
        type=_size,
        default=256,
        help="with --reencode: short side, or WIDTHxHEIGHT (default: 256; 0: as it is)",
    )
    prepare.add_argument("--limit", type=_positive, default=0, help="at most so many videos a split")
    check = commands.add_parser("check", help="decode every video, and list what is wrong")
    check.add_argument("name", metavar="NAME|DIR", help="a data set as for prepare, or a folder of videos or records")
    check.add_argument("--min-frames", type=_positive, default=8, help="fewer frames are short (default: 8)")
    check.add_argument("--report", default="dnr_check.jsonl", help="file for the problems (default: dnr_check.jsonl)")
    for command in (prepare, check):
        command.add_argument("--root", default="", help="folder of the videos", required=command is prepare)
        command.add_argument(
            "--annotations", default="", help="folder of the annotation files, if it is not in the root"
        )
        command.add_argument(
            "--fold", type=_positive, default=1, help="official division of UCF101 and HMDB51 (1 to 3)"
        )
        command.add_argument("--split", nargs="+", help="splits (default: train and val)")
        command.add_argument(
            "--workers", type=_positive, default=available_cores(), help="processes (default: one a core)"
        )
    prepare.set_defaults(run=_prepare)
    check.set_defaults(run=_check)


def _prepare(args: argparse.Namespace) -> int:
    from dnr_jax.data.datasets import DATASETS
    from dnr_jax.data.media import Reencoding
    from dnr_jax.data.prepare import prepare
    from dnr_jax.data.sources import open_dataset

    size = args.size if isinstance(args.size, tuple) else None
    settings = Reencoding(short_side=0 if size else args.size, size=size) if args.reencode == "access" else None
    described = DATASETS.get(args.name)
    try:
        catalogue = open_dataset(args.name, args.root, args.annotations, args.fold, args.split or ("train", "val"))
        prepared = prepare(
            catalogue,
            args.out,
            settings,
            args.workers,
            args.limit,
            title=described.title if described else "",
            homepage=described.homepage if described else "",
        )
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        raise ConfigError(str(error)) from error
    print((epath.Path(prepared.folder) / "card.md").read_text())
    print(f"records in {prepared.folder}; train with --config.data.source=records --config.data.root={prepared.folder}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from dnr_jax.data.check import check, open_target, summary
    from dnr_jax.data.records import why_not_writable

    try:
        catalogue = open_target(args.name, args.root, args.annotations, args.fold, args.split)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    is_local = "://" not in args.report
    unwritable = why_not_writable(pathlib.Path(args.report).absolute().parent) if is_local else ""
    if unwritable:
        print(f"dnr check: {unwritable}; problems are printed only. --report names another file", file=sys.stderr)
    problems = check(catalogue, "" if unwritable else args.report, args.min_frames, args.workers)
    for problem in problems:
        print(problem)
    print(summary(catalogue, problems))
    if problems and not unwritable:
        print(f"the list is in {args.report}")
    return 1 if problems or unwritable else 0


def _evaluate(args: argparse.Namespace) -> int:
    from dnr_jax.data.records import why_not_writable
    from dnr_jax.evaluation.evaluate import evaluate, undecoded_note, views
    from dnr_jax.evaluation.run import load_run, open_data
    from dnr_jax.training.devices import make_mesh

    mesh = make_mesh()
    run = load_run(args.workdir, mesh, args.checkpoint)
    config = run.config
    config.evaluation = with_views(config.evaluation, args.views)
    config.evaluation.batch_size = args.batch_size or config.evaluation.batch_size
    paths = {"root": args.root, "val_list": args.list, "label_map": args.label_map, "annotations": args.annotations}
    source = open_data(run, args.split, args.source, paths)
    folder = pathlib.Path(args.out).expanduser() if args.out else run.workdir
    if problem := why_not_writable(folder):
        print(f"dnr evaluate: {problem}; the result is printed only. --out names another folder", file=sys.stderr)
    report = evaluate(run.model, run.variables, source, config, mesh, progress=True)
    protocol = views(config.evaluation, config.data.crop_size)
    print(f"{args.checkpoint} checkpoint, step {run.step}, views {protocol}")
    print(f"top-5 {report.top5:.1%}, mean class accuracy {report.mean_class_accuracy:.1%}")
    if report.undecoded:
        print(undecoded_note(report.undecoded))
    print(report, flush=True)
    if not problem:
        details = {"step": run.step, "checkpoint": args.checkpoint, "views": protocol}
        try:
            report.write(folder, **details, root=config.data.root, split=args.split, fingerprint=source.fingerprint())
        except OSError as error:
            problem = f"the report cannot be written to '{folder}' ({error.strerror or error})"
            print(f"dnr evaluate: {problem}", file=sys.stderr)
    return 1 if problem or not len(report.labels) else 0


def _predict(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dnr_jax.evaluation.predict import predict

    failures = 0
    predictions = predict(args.workdir, args.videos, args.top, args.views, args.checkpoint)
    with tqdm(predictions, total=len(args.videos), unit="video", disable=len(args.videos) == 1, leave=False) as bar:
        for prediction in bar:
            failures += bool(prediction.error)
            # Written between two states of the progress bar, which stands on the same terminal.
            bar.write(str(prediction), file=sys.stderr if prediction.error else sys.stdout)
    return 1 if failures else 0


def _convert(args: argparse.Namespace) -> int:
    from dnr_jax.config import InitConfig, load_config
    from dnr_jax.convert.source import convert, read_source

    source = read_source(args.source, args.checkpoint)
    config = load_config(args.config) if args.config else source.config
    if config:
        config.init = InitConfig(naming=args.naming, allow=args.allow, relays=args.relays)
    print(convert(source, args.target, config, args.to).summary())
    print(f"wrote {args.target} ({args.to})")
    return 0


def _export(args: argparse.Namespace) -> int:
    from dnr_jax.evaluation.export import export_run
    from dnr_jax.evaluation.run import load_run
    from dnr_jax.training.devices import make_mesh

    for path in export_run(load_run(args.workdir, make_mesh(), args.checkpoint), args.out):
        print(f"wrote {path}")
    return 0


def _profile(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from dnr_jax.config import load_config, validate_network
    from dnr_jax.evaluation.profile import profile, table
    from dnr_jax.models.zoo import ZOO

    networks = [(name, network.config, network.clip_shape) for name, network in ZOO.items()]
    if args.config:
        config = load_config(args.config)
        validate_network(config)
        networks = [(config.model.name, config.model, config.data.clip_shape)]
    results = []
    for name, model, (frames, height, width, colors) in tqdm(networks, unit="network", disable=len(networks) == 1):
        shape = (frames, args.size or height, args.size or width, colors)
        results += profile(name, model, shape, args.repeats)
    print(table(results, args.markdown))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: arguments after the program's name; default: those of the process.

    Returns:
      The exit status: 0; 1 where a video could not be decoded, or something else is wrong with one; 2 for what a person
      has to correct; 130 where it was interrupted.
    """
    args = _parser().parse_args(argv)
    from dnr_jax.training.devices import enable_compilation_cache

    enable_compilation_cache()
    try:
        return args.run(args)
    except ConfigError as error:
        print(f"dnr {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        advice = "; the same command goes on" if args.command in ("prepare", "check") else ""
        print(f"dnr {args.command}: interrupted{advice}", file=sys.stderr)
        return 130


if __name__ == "__main__":  # python -m dnr_jax.cli, where the dnr script is not on the path
    sys.exit(main())
