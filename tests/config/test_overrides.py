"""The config file and the fields that a command line sets."""

import pytest

from dnr_jax.config import ConfigError, ExperimentConfig, load_config, override, read_command_line, unknown_flag
from dnr_jax.data.catalogue.sources import Dataset
from dnr_jax.models import TSM, TSN, BNInception, Interlace, SlowFast, TemporalShift
from tests.paths import REPOSITORY

pytestmark = pytest.mark.compat


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.optimizer.learning_rat=1"], "no field 'optimizer.learning_rat' (did you mean 'learning_rate'?)"),
        (["--config.optimiser.momentum=1"], "(did you mean 'optimizer'?). Fields of the config: model, data,"),
        (["--config.learning_rate=1"], "(did you mean 'optimizer.learning_rate'?)"),
        (
            ["--config.model.norm.dept=1"],
            "(did you mean 'depth'?). Fields of 'model.norm', which is DNRSpec: norm1,",
        ),
        (["--config.train.steps.x=1"], "no field 'train.steps.x'"),
        (["--config.train=1"], "--config.train: is a section; set one of its fields: batch_size,"),
        (["--config.train.steps=many"], "--config.train.steps: 'many' does not fit; expected a whole number"),
        (["--config.train.steps=1.5"], "expected a whole number"),
        (["--config.train.steps", "many"], "'many' does not fit"),
        (["--config.train.steps"], "has no value; expected a whole number"),
        (["--noconfig.train.steps"], "has no value"),
        (["--config.data.flip=maybe"], "expected True or False"),
        (["--config.data.mean=(1,2)"], "'(1,2)' does not fit; expected a tuple of 3 (a finite number;"),
        (["--config.optimizer.learning_rate=fast"], "expected a finite number"),
    ],
)
def test_a_wrong_override_gets_one_readable_line(arguments, message):
    with pytest.raises(ConfigError) as refused:
        override(ExperimentConfig(), arguments)
    (line,) = str(refused.value).splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        (
            "data.root=x",
            "no field 'data.root': it is 'data.source.root' now, a field of Lists, Folder, Dataset, Records",
        ),
        (
            "data.dataset=x",
            "it is 'data.source.name' now, a field of Dataset, which --config.data.source=CLASS chooses",
        ),
        ("data.demo_val_videos=9", "it is 'data.source.val_videos' now, a field of Demo"),
        ("data.source=list", "no Source is called 'list' (did you mean 'Lists'?)"),
        (
            "data.source.rot=x",
            "no field 'data.source.rot' (did you mean 'root'?). Fields of 'data.source', which is Lists",
        ),
    ],
)
def test_former_names_of_sources_are_told_the_new_ones(flag, message):
    with pytest.raises(ConfigError) as refused:
        override(ExperimentConfig(), [f"--config.{flag}"])
    assert message in str(refused.value)


def test_another_source_keeps_what_both_have():
    arguments = ["--config.data.source.root=/r", "--config.data.source=Dataset", "--config.data.source.name=ucf101"]
    config, _ = override(ExperimentConfig(), arguments)
    assert config.data.source == Dataset("ucf101", "/r")


@pytest.mark.parametrize(
    ("field", "asked", "chosen"),
    [
        ("optimizer.momentum", "0.5", "optimizer=AdamW"),
        ("data.source.train_list", "/t", "data.source=Dataset"),
        ("model.interlace.every", "2", "model=SlowFast"),
    ],
)
def test_what_the_chosen_class_does_not_have_is_not_dropped(field, asked, chosen):
    name, _, part = chosen.partition("=")
    words = [f"--config.{field}={asked}", f"--config.{chosen}"]
    refusal = f"^--config.{name}: {field}={asked} stands before it, and {part} has no such field"
    with pytest.raises(ConfigError, match=refusal):
        override(ExperimentConfig(), words)
    with pytest.raises(ConfigError, match=f"no field '{field}'"):
        override(ExperimentConfig(), words[::-1])


def test_a_length_in_epochs_beside_one_in_steps_is_refused():
    demo = load_config("demo")
    with pytest.raises(ConfigError, match=r"--config.train.epochs: has no effect, because train.steps is 600; set "):
        override(demo, ["--config.train.epochs=5"])
    config, _ = override(demo, ["--config.train.epochs=5", "--config.train.steps=0"])
    assert (config.train.epochs, config.train.steps) == (5, 0)


def test_right_overrides_pass():
    arguments = ["--config.optimizer.learning_rate=1e-3", "--config.train.steps", "7", "--noconfig.data.flip"]
    more = [
        "--config.data.flip",
        "--config.data.mean=(1.0, 2, 3)",
        "--config.data.source.root=a=b",
        "--workdir=x",
        "--other",
    ]
    config, rest = override(ExperimentConfig(), arguments + more)
    assert (config.optimizer.learning_rate, config.train.steps, config.data.flip) == (1e-3, 7, True)
    assert (config.data.mean, config.data.source.root, rest) == ((1.0, 2, 3), "a=b", ["--workdir=x", "--other"])


def test_the_config_flags_are_read_wherever_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo = REPOSITORY / "configs" / "demo.py"
    default = ("configs/demo.py", REPOSITORY)
    assert read_command_line(["train.py"], *default) == (load_config(str(demo)), str(demo), ["train.py"])
    given = ["train.py", "--config.train.steps=3", "--config", "configs/demo.py:bn", "--workdir=w"]
    config, path, rest = read_command_line(given, *default)
    assert (config.train.steps, path, rest) == (3, f"{demo}:bn", ["train.py", "--workdir=w"])
    with pytest.raises(ConfigError, match="there is no config file .*dem.py' \\(did you mean .*demo.py'\\?\\)"):
        read_command_line(["train.py", "--config=configs/dem.py"], *default)
    for name, found in [("demo", demo), ("demo:bn", f"{demo}:bn"), ("configs/demo", demo)]:
        assert read_command_line(["train.py", f"--config={name}"], *default)[1] == str(found)
    (tmp_path / "mine.py").write_text(
        "from dnr_jax import config\ndef get_config(arg): return config.ExperimentConfig()"
    )
    assert read_command_line(["train.py", "--config=mine.py"], *default)[1] == "mine.py"


def test_fields_of_the_chosen_network_are_known_with_their_types():
    slowfast = ExperimentConfig(model=SlowFast())
    config, _ = override(slowfast, ["--config.model.alpha=8", "--config.model.fast_depth=18"])
    assert (config.model.alpha, config.model.fast_depth, slowfast.model.alpha) == (8, 18, 4)
    with pytest.raises(
        ConfigError, match=r"no field 'model.alpa' \(did you mean 'alpha'\?\). Fields of 'model', which is"
    ):
        override(slowfast, ["--config.model.alpa=8"])
    with pytest.raises(ConfigError, match="no field 'model.alpha'"):
        override(ExperimentConfig(), ["--config.model.alpha=8"])


def test_another_network_keeps_what_was_set_in_common():
    start = ExperimentConfig(model=TSN(depth=101, num_classes=7))
    config, _ = override(start, ["--config.model=TSM", "--config.model.shift.every=1"])
    assert config.model == TSM(depth=101, num_classes=7, shift=TemporalShift(every=1))
    with pytest.raises(ConfigError, match="no Network is called 'TSMM'.*there are .*TSM"):
        override(start, ["--config.model=TSMM"])


def test_another_network_leaves_a_section_switched_off():
    off = "--config.model.interlace=None"
    config, _ = override(ExperimentConfig(), [off, "--config.model=BNInception"])
    assert config.model == BNInception(interlace=None)
    more = [off, "--config.model.dropout=0.4", "--config.model=TSM"]
    with pytest.raises(ConfigError, match="^--config.model: model.dropout=0.4 stands before it, and TSM begins"):
        override(ExperimentConfig(), more)


def test_an_optional_section_is_switched_off_and_on():
    off, _ = override(ExperimentConfig(), ["--config.model.interlace=None"])
    assert off.model.interlace is None
    with pytest.raises(ConfigError, match="model.interlace is None; set --config.model.interlace=Interlace before it"):
        override(off, ["--config.model.interlace.every=2"])
    on, _ = override(off, ["--config.model.interlace=Interlace", "--config.model.interlace.every=2"])
    assert on.model.interlace == Interlace(every=2)


def test_the_name_of_a_section_that_is_on_leaves_it_as_it_is():
    words = ["--config.model.interlace.every=2", "--config.model.interlace=Interlace"]
    assert override(ExperimentConfig(), words)[0].model.interlace == Interlace(every=2)
    config, _ = override(ExperimentConfig(), ["--config.train.steps=3", "--config.train=TrainConfig"])
    assert config.train.steps == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo"], "'demo' belongs to no flag; did you mean --config=demo\\?"),
        (["runs/x"], "'runs/x' belongs to no flag; expected --config="),
        (["--config.data.flip", "false"], "'false' belongs to no flag; write it behind the flag's name"),
        (["--workdir=w", "x"], "'x' belongs to no flag"),
        (["--config=demo", "--config=demo:bn"], "--config is given 2 times"),
        (["--config="], "--config is empty"),
        (["--config"], "--config is empty"),
        (["--config=configs"], "'configs' is a folder; expected a config file. Config files: .*demo.py"),
        (["--config=README.md"], "'.*README.md' is no file in Python"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_what_would_be_right(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        read_command_line(["train.py", *arguments], "configs/demo.py", REPOSITORY)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("workdr", " (did you mean --workdir?)"),
        ("print-config", " (did you mean --print_config?)"),
        ("batch_size", " (did you mean --config.train.batch_size?)"),
        ("source.root", " (did you mean --config.data.source.root?)"),
        ("learning_rat", " (did you mean --config.optimizer.learning_rate?)"),
        ("xyzzy", ""),
    ],
)
def test_an_unknown_flag_is_told_the_nearest(name, suggestion):
    message = unknown_flag(name, ["config", "workdir", "print_config"])
    assert message.startswith(f"there is no flag --{name}{suggestion}. Flags: --config, --workdir")


def test_values_of_flags_are_no_loose_words():
    arguments = ["--workdir", "w", "--config.train.steps", "7", "--config.data.flip", "--config", "demo", "--workdir=w"]
    assert read_command_line(["train.py", *arguments], "configs/demo.py", REPOSITORY)[2][1:3] == ["--workdir", "w"]
