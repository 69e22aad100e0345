"""The ``dnr`` command: prepare and check data; train, evaluate, use, convert, export and profile networks.

Modules that take long to import are imported by the subcommand that needs them, so that ``dnr --help`` does not wait.
"""

import argparse
import difflib
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from etils import epath

from dnr_jax import console, explain_command, features_command, plan_command, report_command, sweep_command
from dnr_jax.app.command import add_app
from dnr_jax.arguments import add_checkpoint, path_from, whole
from dnr_jax.config import ConfigError, expand_path, list_configs, with_views
from dnr_jax.data.clips.cores import available_cores
from dnr_jax.progress import Progress, stage
from dnr_jax.serve.command import add_serve
from dnr_jax.streaming.arguments import add_stream_arguments, why_not_streamed

_CHECKPOINT = """\
--checkpoint says which network is taken. 'latest' is the one after the last step: nothing about it was chosen by the
validation videos, so its score on them is an honest one, and with a learning rate that falls to 0 it is mostly the best
one too. 'best' is the one with the highest validation top-1 during training, the wiser choice where validation fell
towards the end; its score on the same videos flatters it.

"""


def _without_fields(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the fields of a configuration among words, each with its value where that stands behind it; the others."""
    fields, others, remaining = list[str](), list[str](), list(words)
    while remaining:
        word = remaining.pop(0)
        if not re.match(r"--(no)?config\.", word):
            others.append(word)
            continue
        fields.append(word)
        if "=" not in word and remaining and not re.match(r"-(?![\d.])", remaining[0]):
            fields.append(remaining.pop(0))
    return fields, others


class _Parser(argparse.ArgumentParser):
    """Says what may have been meant where it does not understand.

    It may leave all words to the command, as ``words``, or the fields of a configuration, as ``fields``.
    """

    def __init__(self, takes_words: bool = False, takes_fields: bool = False, **settings: Any):
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=not takes_words,
            **settings,
        )
        self._takes_words, self._takes_fields = takes_words, takes_fields

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments, as the base class does."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parsed.parser.error(f"{unknown[0]!r} is one argument too many; flags: {', '.join(parsed.parser._flags)}")
        return parsed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments, as the base class does, but refuse flags that there are not before missing ones."""
        if self._takes_words:
            parsed, _ = super().parse_known_args([], namespace)
            parsed.words = list(args)
            return parsed, []
        if self._takes_fields:
            fields, others = _without_fields(args)
            parsed, unknown = self._parse_known(others, namespace)
            parsed.fields = fields
            return parsed, unknown
        return self._parse_known(args, namespace)

    def _parse_known(self, args: Any, namespace: Any) -> Any:
        for word in () if self._subparsers else args or ():
            if word == "--":
                break
            if word.startswith("--") and (flag := word.partition("=")[0]) not in self._flags:
                self.error(f"there is no flag {flag}{_nearest(flag, self._flags)}; flags: {', '.join(self._flags)}")
        parsed, left = super().parse_known_args(args, namespace)
        return self._with_words_between_flags(parsed, left)

    def _with_words_between_flags(self, parsed: Any, left: list[str]) -> Any:
        """Give a last argument that takes any number of words those that stand between and behind flags too."""
        positional = [action for action in self._positionals._group_actions if action.nargs in ("*", "+")]
        end = left.index("--") if "--" in left else len(left)  # whatever stands behind that is no flag
        if not positional or any(word != "-" and word.startswith("-") for word in left[:end]):
            return parsed, left
        values = [self._get_value(positional[-1], word) for word in left[:end] + left[end + 1 :]]
        setattr(parsed, positional[-1].dest, [*getattr(parsed, positional[-1].dest), *values])
        return parsed, []

    @property
    def _flags(self) -> list[str]:
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            message = f"there is no {value!r}{_nearest(str(value), choices)}; expected one of {', '.join(choices)}"
            raise argparse.ArgumentError(action, message)

    def error(self, message: str) -> NoReturn:
        """End the program with one line, and the status for what a person has to correct."""
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help explains\n")


def _nearest(word: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _views(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x(1|3|10)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not CLIPSxCROPS, such as 10x3 (crops: 1, 3 or 10)")
    return int(match[1]), int(match[2])


def _parser() -> argparse.ArgumentParser:
    description = "Video action recognition with DNR. 'dnr COMMAND --help' explains a command."
    parser = _Parser(prog="dnr", description=description, epilog=console.EXIT_STATUS)
    parser.add_argument("--version", action="version", version=console.version(), help="print the versions")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_training_commands(commands)
    _add_run_commands(commands)
    report_command.add_report(commands)
    report_command.add_compare(commands)
    sweep_command.add_sweep(commands)
    plan_command.add_plan(commands)
    explain_command.add(commands)
    features_command.add(commands)
    add_serve(commands)
    add_app(commands)
    _add_weight_commands(commands)
    _add_data_commands(commands)
    for command in commands.choices.values():
        command.set_defaults(parser=command)
    return parser


def _add_training_commands(commands: "argparse._SubParsersAction[_Parser]") -> None:
    train = commands.add_parser("train", help="train a network, or go on with a run that was stopped", takes_words=True)
    train.set_defaults(run=_train)
    _add_reproduce(commands)
    configs = commands.add_parser("configs", help="list the configurations that 'dnr train' knows by name")
    configs.set_defaults(run=_configs)


def _budget(text: str) -> float:
    """Return the seconds of a text such as 90s, 30m or 2h."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _add_reproduce(commands: "argparse._SubParsersAction[_Parser]") -> None:
    reproduce = commands.add_parser("reproduce", help="train rows of the paper's tables, and say what comes out")
    reproduce.add_argument(
        "--table", default="", metavar="LIST", help="tables, such as 1a,1b; default: all, in the order of their claims"
    )
    reproduce.add_argument("--row", default="", metavar="NAME", help="one row of the table; --list names them")
    reproduce.add_argument(
        "--scale",
        choices=("mini", "paper"),
        default="mini",
        help="mini (default): small networks and data, on any machine; paper: the paper's experiment",
    )
    reproduce.add_argument("--seeds", type=whole(1), default=5, metavar="N", help="seeds of a row (default: 5)")
    reproduce.add_argument(
        "--out",
        type=path_from,
        default="runs/reproduce",
        metavar="FOLDER",
        help="results and runs (default: runs/reproduce)",
    )
    reproduce.add_argument(
        "--data",
        type=expand_path,
        default="",
        metavar="FOLDER",
        help="real data: the folder of the data set, or of all of them",
    )
    reproduce.add_argument(
        "--jobs", type=whole(1), default=1, metavar="N", help="processes that share the runs (default: 1)"
    )
    reproduce.add_argument("--budget", type=_budget, metavar="TIME", help="stop after this time, such as 30m or 2h")
    reproduce.add_argument(
        "--vmap",
        action="store_true",
        help="train the seeds of a row at once, as far as they fit into memory: for accelerators, which one small "
        "network leaves idle",
    )
    reproduce.add_argument("--quick", action="store_true", help="one seed on easy data: minutes, and no verdicts")
    reproduce.add_argument("--list", action="store_true", help="list rows, the paper's figures and what is done")
    reproduce.add_argument(
        "--report", action="store_true", help="write docs/results.md and what follows from it, and do nothing else"
    )
    reproduce.set_defaults(run=_reproduce)


def _add_run_commands(commands: "argparse._SubParsersAction[_Parser]") -> None:
    evaluate = commands.add_parser("evaluate", help="score the validation videos of a run", epilog=_CHECKPOINT)
    evaluate.add_argument("--batch-size", type=whole(1), help="videos a step; default: as in the run's configuration")
    _add_evaluated_data(evaluate)
    predict = commands.add_parser(
        "predict",
        usage="dnr predict (RUN | --workdir RUN) VIDEO ... [flags]",
        help="label video files, long videos, cameras and live streams",
        epilog=f"{_CHECKPOINT}{console.EXIT_STATUS}",
    )
    predict.add_argument("--top", type=whole(1), default=5, help="labels a video (default: 5)")
    predict.add_argument("--json", action="store_true", help="print a JSON object a line, for programs")
    predict.add_argument(
        "videos",
        nargs="*",
        type=expand_path,  # an empty one costs none of the others
        metavar="VIDEO",
        help="video file of any format that FFmpeg reads, folder of JPEG frames, folder with videos at any depth, "
        "address, or - for the standard input; without --workdir the first is the work directory of the run",
    )
    add_stream_arguments(predict)
    for command in (evaluate, predict):
        command.add_argument(
            "--views", type=_views, metavar="CLIPSxCROPS", help="views of a video, such as 10x3; default: as in the run"
        )
    export = commands.add_parser(
        "export", help="write a trained network as files that run without this package", epilog=_CHECKPOINT
    )
    target = export.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=path_from, metavar="FOLDER", help="folder to write")
    target.add_argument(
        "--space",
        type=path_from,
        metavar="FOLDER",
        help="folder to write as a Space of Hugging Face: dnr app, deployed",
    )
    export.add_argument(
        "--forms",
        default="jax",
        metavar="LIST",
        help="programs to write, of jax (default), onnx and litert; such as jax,onnx",
    )
    export.add_argument(
        "--weights",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="how programs hold the kernels; bfloat16 halves those of jax and onnx, int8 quarters those of jax",
    )
    export.add_argument(
        "--measure", action="store_true", help="score the validation videos with rounded kernels and with exact ones"
    )
    for command, run in ((evaluate, _evaluate), (predict, _predict), (export, _export)):
        command.add_argument(
            "--workdir",
            required=command is not predict,
            type=path_from,
            metavar="FOLDER",
            help="work directory of a training run",
        )
        add_checkpoint(command, "; see below")
        command.set_defaults(run=run)


def _add_weight_commands(commands: "argparse._SubParsersAction[_Parser]") -> None:
    profile = commands.add_parser("profile", help="parameters, multiply-accumulates, memory and latency of networks")
    what = profile.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--config", type=path_from, metavar="FILE[:ARGUMENT]", help="configuration whose network is profiled"
    )
    what.add_argument("--all", action="store_true", help="all networks, on clips of 224 x 224 pixels")
    profile.add_argument("--size", type=whole(1), metavar="PIXELS", help="height and width of the clip")
    profile.add_argument(
        "--repeats",
        type=whole(0),
        default=5,
        metavar="N",
        help="clips scored for the latency (default: 5); 0: counts only",
    )
    profile.add_argument("--markdown", action="store_true", help="print a Markdown table, with times as ratios only")
    profile.set_defaults(run=_profile)
    convert = commands.add_parser(
        "convert",
        help="turn weights of any source into a file of another code base, or into a run to use",
        epilog=_CHECKPOINT,
    )
    convert.add_argument(
        "source",
        type=path_from,
        help="file of weights (.safetensors, .pth, .pt, .pyth), or work directory of a run",
    )
    convert.add_argument(
        "target", nargs="?", type=path_from, help="file to write: .safetensors, or .pth with torch installed"
    )
    convert.add_argument(
        "--workdir",
        type=path_from,
        metavar="FOLDER",
        help="instead of a file, make the folder of a run of these weights, which evaluate, predict, serve and the "
        "other commands take like one that was trained",
    )
    convert.add_argument(
        "--label-map", type=path_from, metavar="FILE", help="names of the classes; default: what the source says"
    )
    convert.add_argument(
        "--config", type=path_from, metavar="FILE[:ARGUMENT]", help="the network; default: what the source says"
    )
    convert.add_argument("--to", default="own", metavar="CODE", help="code base whose names are written (default: own)")
    convert.add_argument("--naming", default="", metavar="CODE", help="code base of the source; default: recognised")
    convert.add_argument("--allow", default="", metavar="LIST", help="what may differ, such as head,relays")
    convert.add_argument(
        "--relays", choices=("fresh", "batch_norm"), default="fresh", help="how relays start that the source lacks"
    )
    add_checkpoint(convert, "; see below")
    convert.set_defaults(run=_convert)


def _add_evaluated_data(evaluate: argparse.ArgumentParser) -> None:
    data = evaluate.add_argument_group("data", "other videos than the run's, or its own where they were moved to")
    data.add_argument("--root", type=path_from, help="folder of the videos")
    data.add_argument("--list", type=path_from, metavar="FILE", help="annotation file of the videos to score")
    data.add_argument(
        "--label-map", type=path_from, metavar="FILE", help="names of the classes that a list gives by number"
    )
    data.add_argument("--annotations", type=path_from, metavar="FOLDER", help="annotation files of a public data set")
    data.add_argument("--split", default="val", help="which videos of the data (default: val)")
    data.add_argument(
        "--source",
        metavar="CLASS",
        help="what the data is: Folder, Lists, Dataset, Records or a source of your own; default: Lists with --list, "
        "otherwise what --root holds, or as in the run",
    )
    data.add_argument(
        "--out",
        type=path_from,
        metavar="FOLDER",
        help="folder for the report; default: the run's, or with these flags evaluation_<split>_<fingerprint> in it",
    )


def _size(text: str) -> int | tuple[int, int]:
    """Return a short side, or the height and width that a text WIDTHxHEIGHT names."""
    if text.isdecimal():
        return int(text)
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match or int(match[1]) % 2 or int(match[2]) % 2:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a short side, such as 256, nor an even size like 340x256"
        )
    return int(match[2]), int(match[1])


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not match or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N, such as 1/4, 2/4, 3/4 and 4/4 for four machines")
    return int(match[1]), int(match[2])


def _add_prepare(commands: "argparse._SubParsersAction[_Parser]") -> argparse.ArgumentParser:
    prepare = commands.add_parser("prepare", help="write a data set as records, with a card that describes it")
    prepare.add_argument(
        "name", metavar="NAME", help="kinetics400, ucf101, ...; or folder, or list, for your own videos"
    )
    prepare.add_argument("--out", required=True, type=path_from, metavar="FOLDER", help="folder for the records")
    prepare.add_argument(
        "--reencode", choices=("none", "access"), default="none", help="access: for fast random access"
    )
    prepare.add_argument(
        "--size",
        type=_size,
        default=256,
        help="with --reencode: short side, or WIDTHxHEIGHT (default: 256; 0: as it is)",
    )
    prepare.add_argument("--limit", type=whole(1), default=0, help="at most so many videos a split")
    several = prepare.add_mutually_exclusive_group()
    several.add_argument(
        "--shard", type=_shard, metavar="I/N", help="make the I-th of N shards only, from 1/N to N/N, each by a machine"
    )
    several.add_argument(
        "--merge",
        nargs="*",
        type=path_from,
        metavar="FOLDER",
        help="put the shards in --out, and in these folders, together; with the other flags as for the shards",
    )
    prepare.set_defaults(run=_prepare)
    return prepare


def _add_data_commands(commands: "argparse._SubParsersAction[_Parser]") -> None:
    prepare = _add_prepare(commands)
    check = commands.add_parser("check", help="decode every video, and list what is wrong")
    check.add_argument(
        "name",
        type=path_from,
        metavar="NAME|DIR",
        help="a data set as for prepare, or a folder of videos or records",
    )
    check.add_argument("--min-frames", type=whole(1), default=8, help="fewer frames are short (default: 8)")
    check.add_argument(
        "--report",
        type=path_from,
        default="dnr_check.jsonl",
        help="file for the problems (default: dnr_check.jsonl)",
    )
    for command in (prepare, check):
        command.add_argument("--root", type=path_from, help="folder of the videos", required=command is prepare)
        command.add_argument(
            "--annotations", type=path_from, help="folder of the annotation files, if it is not in the root"
        )
        command.add_argument("--fold", type=whole(1), default=1, help="official division of UCF101 and HMDB51 (1 to 3)")
        command.add_argument("--split", nargs="+", help="splits (default: train and val)")
        command.add_argument(
            "--workers", type=whole(1), default=available_cores(), help="processes (default: one a core)"
        )
    check.set_defaults(run=_check)


def _train(args: argparse.Namespace) -> int:
    from dnr_jax import train_command

    return train_command.main("dnr train", args.words)


def _configs(args: argparse.Namespace) -> int:
    configs = list_configs()
    for name, text in configs.items():
        print(f"{name:<{max(map(len, configs))}}  {text}")
    print("'dnr train --config=NAME' trains one, 'dnr train --config=NAME --fields' lists its fields")
    return 0


def _reproduce(args: argparse.Namespace) -> int:
    out = pathlib.Path(console.local_folder("--out", args.out))
    with stage("importing"):
        from dnr_jax.reproduce import command

    if args.quick and args.scale == "paper":
        raise ConfigError("--quick is of the mini scale; leave out one of --quick and --scale paper")
    if args.report:
        return command.report_committed()
    scale, seeds = ("quick", 1) if args.quick else (args.scale, args.seeds)
    selected = command.select([key for key in args.table.split(",") if key], args.row)
    if args.list:
        print(command.listing(selected, seeds, scale, out, args.data))
        return 0
    jobs = command.jobs_of(selected, seeds, scale)  # what is refused is refused once, not by every process
    if args.jobs > 1:
        words = ["--table", args.table, "--row", args.row, "--out", str(out), "--data", args.data]
        words += ["--seeds", str(seeds), "--scale", args.scale, *["--quick"] * args.quick]
        words += ["--vmap"] * args.vmap
        return command.in_processes(args.jobs, words + (["--budget", f"{args.budget:g}s"] if args.budget else []))
    return command.reproduce(jobs, out, args.data, args.budget, args.vmap)


def _prepare(args: argparse.Namespace) -> int:
    from dnr_jax.data.catalogue.datasets import DATASETS
    from dnr_jax.data.catalogue.media import Reencoding
    from dnr_jax.data.catalogue.prepare import Preparation
    from dnr_jax.data.catalogue.sources import Folder, source_at

    out = console.local_folder("--out", args.out)
    size = args.size if isinstance(args.size, tuple) else None
    settings = Reencoding(short_side=0 if size else args.size, size=size) if args.reencode == "access" else None
    described = DATASETS.get(args.name)
    words = (described.title, described.homepage) if described else ("", "")
    try:
        source = source_at(args.name, args.root, args.annotations or "", args.fold)
        catalogue = source.open(args.split or ("train", "val"))
        preparation = Preparation(catalogue, out, settings, args.limit)
        if args.shard:
            return _say_shard(args.shard, preparation.run_shard(args.shard, args.workers), preparation)
        if args.merge is None:
            prepared = preparation.run(args.workers, *words)
        else:
            prepared = preparation.merge(args.merge, *words)
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        lacking = Folder(args.root).path_problems() if args.name == "folder" and not args.split else ()
        raise ConfigError(". --".join([str(error), *lacking])) from error
    print((epath.Path(prepared.folder) / "card.md").read_text())
    flags = f"--config.data.source=Records --config.data.source.root={prepared.folder}"
    print(f"records in {prepared.folder}; train with {flags}")
    return 0


def _say_shard(shard: tuple[int, int], videos: tuple[int, int], preparation: Any) -> int:
    """Print what is complete, and what is to be done when all shards are."""
    number, count = shard
    total = sum(len(part.tasks) for part in preparation.parts)
    print(
        f"shard {number}/{count} with {videos[0]} videos is complete; {videos[1]} of all {total} are in "
        f"'{preparation.work.parent}'. When all shards are complete, the same command with --merge in place of --shard "
        "puts them together; --merge FOLDER ... where they have folders of their own"
    )
    return 0


def _check(args: argparse.Namespace) -> int:
    from dnr_jax.data.catalogue.check import check, is_written, summary
    from dnr_jax.data.catalogue.records import why_not_writable
    from dnr_jax.data.catalogue.sources import source_at

    try:
        catalogue = source_at(args.name, args.root or "", args.annotations or "", args.fold).open(args.split)
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
    written = not unwritable and is_written(args.report, problems)
    if problems and written:
        print(f"the list is in {args.report}")
    return 1 if unwritable or (problems and not written) or any(problem.is_fault for problem in problems) else 0


def _evaluate(args: argparse.Namespace) -> int:
    with stage("importing"):
        from dnr_jax.data.catalogue.records import why_not_writable
        from dnr_jax.evaluation.evaluate import evaluate, undecoded_note, views
        from dnr_jax.evaluation.videos import open_data
        from dnr_jax.report.recipe import versions
        from dnr_jax.runs.devices import make_mesh
        from dnr_jax.runs.folder import load_run

    with stage("loading the network"):
        mesh = make_mesh()
        run = load_run(args.workdir, mesh, args.checkpoint)
    config = run.config
    config.evaluation = with_views(config.evaluation, args.views)
    config.evaluation.batch_size = args.batch_size or config.evaluation.batch_size
    paths = {"root": args.root, "val_list": args.list, "label_map": args.label_map, "annotations": args.annotations}
    with stage("reading the data"):
        source = open_data(run, args.split, args.source, paths)
    folder = run.workdir
    if args.out:
        folder = pathlib.Path(console.local_folder("--out", args.out))
    elif any(paths.values()) or args.split != "val" or args.source:  # the run's own report stays
        folder = run.workdir / f"evaluation_{args.split}_{source.fingerprint()[:8]}"
    if problem := why_not_writable(folder):
        print(f"dnr evaluate: {problem}; the result is printed only. --out names another folder", file=sys.stderr)
    report = evaluate(run.model, run.variables, source, config, mesh, progress=True)
    protocol = views(config.evaluation, config.data.crop_size)
    print(f"{args.checkpoint} checkpoint, step {run.step}, views {protocol}")
    if len(report.labels):
        print(f"top-5 {report.top5:.1%}, mean class accuracy {report.mean_class_accuracy:.1%}")
        print(f"loss {report.loss:.3f}")
    if report.undecoded:
        print(undecoded_note(report.undecoded))
    if folder != run.workdir and not problem:
        print(f"its files are in {folder}")
    print(report, flush=True)
    if not problem:
        scored = {"root": config.data.source.place, "split": args.split, "fingerprint": source.fingerprint()}
        details = {"step": run.step, "checkpoint": args.checkpoint, "views": protocol, "versions": versions()}
        try:
            report.write(folder, **details, **scored)
        except OSError as error:
            problem = f"not all of the report can be written ({error.strerror or error}): {error.filename}"
            print(f"dnr evaluate: {problem}", file=sys.stderr)
    return 1 if problem or not len(report.labels) else 0


def _predict(args: argparse.Namespace) -> int:
    if not args.workdir:
        args.workdir, *args.videos = args.videos or [""]
    if not args.workdir or not (args.videos or args.webcam):
        raise ConfigError("expected the work directory of a run and a video: dnr predict RUN VIDEO")
    if problem := why_not_streamed(args):
        raise ConfigError(problem)
    with stage("importing"):
        from dnr_jax.evaluation.inputs import find_videos
        from dnr_jax.evaluation.predict import predict

    if args.stream or args.webcam:
        from dnr_jax.streaming import command

        return command.run(args)
    paths = find_videos(args.videos)
    failures = 0
    with Progress(len(paths), "predicting", "video", first="loading and compiling the network") as progress:
        for prediction in predict(args.workdir, paths, args.top, args.views, args.checkpoint):
            failures += bool(prediction.error)
            if args.json:
                progress.print(prediction.as_json())
            if prediction.error or not args.json:
                progress.print(str(prediction), sys.stderr if prediction.error else sys.stdout)
            progress.update()
    return 1 if failures else 0


def _convert(args: argparse.Namespace) -> int:
    if bool(args.target) == bool(args.workdir):
        raise ConfigError(
            "expected either a file to write or --workdir: dnr convert SOURCE (TARGET | --workdir FOLDER)"
        )
    if args.workdir and args.to != "own":
        raise ConfigError(f"--to: is {args.to!r}, but a run has no names of other code bases; leave it out")
    if args.label_map and args.target and not args.target.endswith(".safetensors"):
        raise ConfigError("--label-map: only .safetensors and runs hold names of classes; leave it out")
    with stage("importing"):
        from dnr_jax.config import InitConfig, load_config
        from dnr_jax.convert.source import convert, convert_to_run, read_source

    config = load_config(args.config) if args.config else None
    with stage("reading the weights"):
        source = read_source(args.source, args.checkpoint)
    config = config or source.config
    if config:
        config.init = InitConfig(naming=args.naming, allow=args.allow, relays=args.relays)
    classes = _class_names(args.label_map) if args.label_map else ()
    with stage("converting"):
        if args.workdir:
            folder, report = convert_to_run(source, args.workdir, config, classes)
        else:
            report = convert(source, args.target, config, args.to, classes)
    print(report.summary())
    print(f"wrote {folder}" if args.workdir else f"wrote {args.target} ({args.to})")
    return 0


def _class_names(file: str) -> tuple[str, ...]:
    """Return the names in a file of classes."""
    from dnr_jax.data.catalogue.annotations import label_map

    try:
        return label_map(epath.Path(file)).names
    except (OSError, ValueError) as error:
        raise ConfigError(f"--label-map: {error}") from error


def _export(args: argparse.Namespace) -> int:
    if args.space:
        return _export_space(args)
    out = console.local_folder("--out", args.out)
    if args.measure and args.weights == "float32":
        raise ConfigError("--measure tells what rounding costs; add --weights bfloat16 or int8")
    with stage("importing"):
        from dnr_jax.convert.export import export_run
        from dnr_jax.runs.devices import make_mesh
        from dnr_jax.runs.folder import load_run

    with stage("loading the network"):
        mesh = make_mesh()
        run = load_run(args.workdir, mesh, args.checkpoint)
    with stage("exporting the network"):
        files = export_run(run, out, args.forms.split(","), args.weights)
    for path in files:
        print(f"wrote {path}")
    if args.measure:
        _say_cost(run, mesh, args.weights)
    return 0


def _export_space(args: argparse.Namespace) -> int:
    if args.forms != "jax" or args.weights != "float32" or args.measure:
        raise ConfigError("--space writes the run itself; leave out --forms, --weights and --measure")
    folder = console.local_folder("--space", args.space)
    with stage("importing"):
        from dnr_jax.app.space import write_space
        from dnr_jax.runs.devices import make_mesh
        from dnr_jax.runs.folder import load_run

    with stage("loading the network"):
        run = load_run(args.workdir, make_mesh(), args.checkpoint)
    for path in write_space(run, folder):
        print(f"wrote {path}")
    return 0


def _say_cost(run: Any, mesh: Any, weights: str) -> None:
    """Print the accuracies of a network with exact and with rounded kernels."""
    from dnr_jax.convert.export import rounded, widened
    from dnr_jax.evaluation.evaluate import score_videos
    from dnr_jax.evaluation.videos import open_data
    from dnr_jax.runs.inference import make_eval_step

    videos = open_data(run)
    step = make_eval_step(run.model, run.config, mesh)  # one for both, so that it is compiled once
    for name in ("float32", weights):
        changed = run.variables if name == "float32" else widened(rounded(run.variables, name), run.variables)
        report = score_videos(step, changed, videos, run.config, mesh, run.config.evaluation, progress=True)
        print(f"{name} kernels: {report}, loss {report.loss:.4f}")


def _profile(args: argparse.Namespace) -> int:
    from dnr_jax.config import load_config, validate_network
    from dnr_jax.evaluation.profile import profile, table
    from dnr_jax.models.zoo import zoo

    networks = [(name, network.config, network.clip_shape) for name, network in zoo().items()]
    if args.config:
        config = load_config(args.config)
        validate_network(config)
        networks = [(type(config.model).__name__, config.model, config.data.clip_shape)]
    results = []
    with Progress(len(networks), "profiling", "network", first="compiling") as progress:
        for name, model, (frames, height, width, colors) in networks:
            shape = (frames, args.size or height, args.size or width, colors)
            results += profile(name, model, shape, args.repeats)
            progress.update()
    print(table(results, args.markdown))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: arguments after the program's name; default: those of the process.

    Returns:
      The exit status: see :data:`dnr_jax.console.EXIT_STATUS`.
    """
    return console.run("dnr", lambda: _main(argv))


def _main(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    advice = "the same command goes on" if args.command in ("prepare", "check", "reproduce", "sweep") else ""
    return console.run(f"dnr {args.command}", lambda: _run(args), advice)


def _run(args: argparse.Namespace) -> int:
    from dnr_jax.runs.devices import enable_compilation_cache

    enable_compilation_cache()
    return args.run(args)


if __name__ == "__main__":  # python -m dnr_jax.cli; python -m dnr_jax is the same
    sys.exit(main())
