import dataclasses
import pathlib

import pytest

from dnr_jax.config import ConfigError, flatten, validate
from dnr_jax.data.catalogue import demo
from dnr_jax.reproduce import experiments
from dnr_jax.reproduce.experiments import Run, make_config, runs_of, why_not
from dnr_jax.reproduce.tables import ARMS, TABLES, Setting


@pytest.fixture
def no_videos(monkeypatch):
    """Generate nothing, but remember what would be."""
    made = []
    monkeypatch.setattr(experiments, "make_hard_demo", lambda *args: made.append(args) or "/videos")
    return made


def test_fingerprints_tell_what_is_declared_and_not_the_seed():
    run = Run(Setting(), "generated")
    assert dataclasses.replace(run, seed=9).fingerprint == run.fingerprint
    changed = [
        dataclasses.replace(run, fold=1),
        dataclasses.replace(run, data="generated:noise=9"),
        dataclasses.replace(run, data="ut_interaction"),
        dataclasses.replace(run, setting=Setting(rate=2.0)),
        dataclasses.replace(run, setting=Setting(norm={"relay": "se"})),
        dataclasses.replace(run, start=run),
    ]
    assert len({run.fingerprint, *(other.fingerprint for other in changed)}) == 1 + len(changed)
    assert run.name == f"{run.fingerprint}-0"


def test_runs_that_were_done_keep_their_fingerprints():
    """New settings are declared where they differ from their defaults alone, so that finished lines stay valid."""
    fingerprints = [Run(arm.setting, "generated").fingerprint for arm in ARMS]
    assert fingerprints == ["7c3835eb93ac", "64dc9f3ae6f1", "675f59d5d973", "286a351de260"]


@pytest.mark.parametrize(
    ("field", "value", "name", "expected"),
    [
        ("rate", 2.0, "optimizer.learning_rate", 0.1),
        ("steps", 4, "train.steps", 2400),
        ("steps", 2, "train.eval_every", 1200),
        ("warmup", 4, "optimizer.warmup_steps", 200),
        ("decay", 0.0, "optimizer.weight_decay", 0.0),
        ("cells", 4.0, "optimizer.rate_factors", ("relays=4",)),
        ("precise", 60, "train.precise_statistics", 60),
    ],
)
def test_what_a_setting_changes_is_in_the_configuration(field, value, name, expected, no_videos, tmp_path):
    before, after = (
        flatten(make_config(Run(setting, "generated"), "", tmp_path))
        for setting in (Setting(), Setting(**{field: value}))
    )
    assert after[name] == expected
    assert {key for key in after if after[key] != before[key]} <= {name, "train.steps", "train.eval_every"}
    assert (after["optimizer.warmup_steps"] == 50) == (field != "warmup")


def test_a_knob_at_the_chosen_value_is_the_chosen_data():
    gap = experiments.CHOSEN["gap"]
    plain, spelled = Run(Setting(), "generated"), Run(Setting(), f"generated:gap={gap:g}")
    assert spelled.fingerprint == plain.fingerprint
    with pytest.raises(ConfigError, match="no knob 'blur'; knobs: gap, contrast"):
        experiments.knobs_of("generated:blur=1")


@pytest.mark.parametrize("size", [24, 40])
def test_a_size_takes_the_frames_in_front_of_the_crop_along(size):
    usual, other = (experiments.protocol_of("ut_interaction", setting) for setting in (Setting(), Setting(size=size)))
    assert other == dataclasses.replace(usual, size=size, short_side=other.short_side)
    assert other.short_side / size == usual.short_side / usual.size


def test_runs_have_seeds_data_and_folds():
    runs = runs_of(TABLES["ut"], ARMS[0], 2)
    assert [(run.seed, run.fold) for run in runs] == [(seed, fold) for seed in (0, 1) for fold in range(4)]
    assert {run.seed for run in runs_of(TABLES["rates"], TABLES["rates"].rows[0], 2)} == {100, 101}


def test_fine_tuning_starts_from_the_same_arm_and_seed_on_the_first_data():
    rows = {row.name: row for row in TABLES["4"].rows}
    run = runs_of(TABLES["4"], rows["sthv1+dnr"], 3)[2]
    assert (run.data, run.start.data, run.start.seed) == ("weizmann4_order", "generated", 2)
    assert run.start.fingerprint == Run(ARMS[3].setting, "generated").fingerprint
    config = make_config(run, "/real", pathlib.Path("/out/runs"))
    assert config.init_from == f"/out/runs/{run.start.name}"


@pytest.mark.parametrize("arm", ARMS, ids=lambda row: row.name)
def test_arms_differ_in_norms_and_interlacing_alone(arm, no_videos):
    config = make_config(Run(arm.setting, "generated", seed=7), "", pathlib.Path("/out/runs"))
    assert (config.model.interlace is not None) == (arm.name in ("dnr", "bn_interlace"))
    assert (config.model.norm.norm1 == "cl") == ("dnr" in arm.name)
    assert (config.train.seed, config.data.source.root, config.train.batch_size) == (7, "/videos", 8)
    (cache, videos, validation, difficulty, size), protocol = no_videos[0], experiments.protocol_of("generated")
    assert cache == "/out/data" and (videos, validation) == (experiments.CHOSEN["videos"], 240)
    assert size == protocol.size and difficulty == demo.Difficulty(
        gap=int(experiments.CHOSEN["gap"]),
        **{name: experiments.CHOSEN[name] for name in ("contrast", "cast", "exposure", "noise")},
    )


@pytest.mark.parametrize("key", [key for key, table in TABLES.items() if table.data])
def test_every_row_of_the_mini_scale_has_a_configuration_that_can_work(key, no_videos, tmp_path):
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
    for row in TABLES[key].all_rows():
        run = runs_of(TABLES[key], row, 1)[0]
        if not row.skipped:
            config = make_config(dataclasses.replace(run, data="generated", start=None), "", tmp_path)
            config.data.source.root = str(tmp_path)
            validate(config, num_devices=1)


def test_what_cannot_be_done_is_told(tmp_path):
    table = TABLES["ut"]
    run = runs_of(table, ARMS[0], 1)[0]
    assert why_not(run, ARMS[0], "") == "there is no folder ut_interaction in --data (not given)"
    (tmp_path / "ut_interaction").mkdir()
    assert why_not(run, ARMS[0], str(tmp_path)) == ""
    skipped = next(row for row in TABLES["1a"].rows if row.skipped)
    assert why_not(runs_of(TABLES["1a"], skipped, 1)[0], skipped, "") == "its blocks have no third norm"
    assert why_not(runs_of(table, ARMS[0], 1, "paper")[0], ARMS[0], "") == "the paper has no such row"


def test_the_papers_scale_is_the_configuration_of_the_row():
    (row,) = [row for row in TABLES["1c"].rows if row.name == "reduction=8"]
    (run,) = runs_of(TABLES["1c"], row, 1, "paper")
    config = make_config(run, "/k200", pathlib.Path("/out/runs"))
    assert (config.model.norm.reduction, config.model.depth, config.data.source.root) == (8, 50, "/k200")


def test_rows_of_the_papers_scale_that_are_the_same_network_are_one_run():
    named = {(table.key, row.name): row for table in TABLES.values() for row in table.rows}
    groups = [
        [("1a", "method=cl+ct"), ("1c", "depth=1"), ("1d", "method=dnr,relay=lstm"), ("2", "resnet50+dnr")],
        [("1a", "method=baseline"), ("2", "resnet50"), ("3", "base=bn,method=baseline,batch=8")],
        [("4", "kinetics400"), ("6", "tsn")],
        [("4", "sthv1")],
        [("4", "sthv2")],
        [("2", "resnet101")],
    ]
    fingerprints = [
        {runs_of(TABLES[key], named[key, name], 1, "paper")[0].fingerprint for key, name in group} for group in groups
    ]
    assert [len(found) for found in fingerprints] == [1] * len(groups)
    assert len(set.union(*fingerprints)) == len(groups)


def test_fine_tuning_of_the_papers_scale_starts_from_its_kinetics_run():
    (row,) = (row for row in TABLES["4"].rows if row.name == "sthv2+dnr")
    run = runs_of(TABLES["4"], row, 1, "paper")[0]
    config = make_config(run, "", pathlib.Path("/out/runs"))
    assert (run.start.config, run.start.data, run.data) == ("k400_tsn_dnr", "Kinetics-400", "Something-Something V2")
    assert (config.init_from, config.init.allow) == (f"/out/runs/{run.start.name}", "head")


def test_few_videos_are_some_of_the_list_and_more_hold_them_too(tmp_path):
    folder = tmp_path / "hockey_fights"
    folder.mkdir()
    (folder / "train_list.txt").write_text("".join(f"{number}.mp4 0\n" for number in range(500)))
    table, chosen = TABLES["hockey"], []
    for run in runs_of(table, ARMS[1], 1):
        config = make_config(run, str(tmp_path), tmp_path / "runs")
        chosen.append(set(pathlib.Path(config.data.source.train_list).read_text().splitlines()))
        assert config.data.source.val_list == str(folder / "val_list.txt")
    assert [len(videos) for videos in chosen] == [100, 200, 400]
    assert chosen[0] < chosen[1] < chosen[2]
    assert len({run.fingerprint for run in runs_of(table, ARMS[1], 1)}) == 3
