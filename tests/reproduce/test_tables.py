import dataclasses
import runpy

import numpy as np
import pytest

from dnr_jax.config import ConfigError, flatten, load_config
from dnr_jax.reproduce import experiments, tables
from dnr_jax.reproduce.tables import TABLES, Setting
from tests.paths import REPOSITORY

ROWS = [(table, row) for table in TABLES.values() for row in table.all_rows()]


def test_every_table_of_the_paper_is_there():
    assert {"1a", "1b", "1c", "1d", "2", "3", "4", "5", "6", "bidirectional", "cost", "visualisation"} <= set(TABLES)


def test_names_are_unique_and_claims_name_rows_with_weights_that_cancel():
    for table in TABLES.values():
        names = [row.name for row in table.all_rows()]
        assert len(set(names)) == len(names)
        for claim in table.claims:
            rows = {f"{name}@{data}" for name in names for data in table.data} if table.sweep else set(names)
            assert set(claim.weights) <= rows, claim
            assert sum(claim.weights.values()) == pytest.approx(0)


def test_the_papers_margins_are_those_that_it_prints():
    """Table, baseline, DNR: the differences that the paper gives beside its accuracies."""
    for key, name, margin in [
        ("2", "bninception", 5.39),
        ("2", "resnet50", 5.59),
        ("2", "resnet101", 5.79),
        ("2", "resnext101", 4.43),
        ("4", "kinetics400", 5.58),
        ("4", "kinetics400_resnet101", 5.30),
        ("4", "sthv1", 27.77),
        ("4", "sthv2", 27.25),
        ("5", "r2plus1d", 2.45),
        ("5", "slowfast", 1.76),
    ]:
        rows = {row.name: row for row in TABLES[key].rows}
        assert rows[f"{name}+dnr"].accuracy[0] - rows[name].accuracy[0] == pytest.approx(margin)


def test_what_stands_beside_a_claim_is_of_rows_that_there_are():
    for table in TABLES.values():
        for claim in table.claims:
            for beside in claim.beside:
                names = {row.name for row in TABLES[beside.table].all_rows()}
                assert set(beside.weights) <= names, beside
                assert sum(beside.weights.values()) == pytest.approx(0)


def test_data_sets_have_names_for_people():
    assert tables.name_of("generated:gap=6,noise=4") == "generated videos, gap 6, noise 4"
    assert tables.name_of("hockey_fights:100") == "hockey fights, 100 training videos"
    assert tables.name_of("Kinetics-400") == "Kinetics-400"


def test_the_slope_is_that_of_a_line_through_the_margins():
    weights = tables._slope(dnr=1, baseline=-1)
    margins = {8: 3.0, 4: 5.5, 2: 8.0, 1: 10.5}  # 2.5 points a halving
    slope = sum(weights[f"base=bn,method=dnr,batch={clips}"] * margin for clips, margin in margins.items())
    assert slope == pytest.approx(2.5)
    x, y = np.arange(4), np.array([1.0, 4.0, 2.0, 8.0])
    slope = sum(weights[f"base=bn,method=dnr,batch={clips}"] * y[i] for i, clips in enumerate(margins))
    assert slope == pytest.approx(np.polyfit(x, y, 1)[0])


def test_the_slope_over_steps_is_that_of_a_line_through_the_margins():
    weights = tables._doublings("dnr", "bn_interlace")
    margins = {"": -20.0, ",steps=2": -3.0, ",steps=4": 4.0}
    slope = sum(weights.get(f"dnr{length}", 0) * margin for length, margin in margins.items())
    assert slope == pytest.approx(np.polyfit([0, 1, 2], [*margins.values()], 1)[0])
    assert {
        name.replace("dnr", "bn_interlace"): -w for name, w in weights.items() if "dnr" in name
    }.items() <= weights.items()


def test_the_same_network_in_several_tables_is_the_same_run():
    rows = {(table.key, row.name): row for table, row in ROWS}
    same = [("arms", "dnr"), ("1a", "method=cl+ct"), ("1c", "reduction=4"), ("1c", "depth=1"), ("2", "resnet50+dnr")]
    same += [("1d", "method=dnr,relay=lstm"), ("3", "base=bn,method=dnr,batch=8")]
    runs = [experiments.runs_of(TABLES[key], rows[key, name], 1)[0] for key, name in same]
    assert len({run.fingerprint for run in runs}) == 1
    others = [("arms", "bn"), ("arms", "bn_interlace"), ("1b", "method=ct,relay_distance=2"), ("1c", "depth=2")]
    runs += [experiments.runs_of(TABLES[key], rows[key, name], 1)[0] for key, name in others]
    assert len({run.fingerprint for run in runs}) == 1 + len(others)


def test_the_rows_of_table_1_where_order_is_far_differ_in_their_norms_alone():
    """Interlaced, and with scales that start at 1: a quarter of the gain behind two sigmoids, half of it behind one."""
    starts = {"lstm": 0.25, "none": 0.25, "se": 0.5, "fc": 0.5}
    for key in ("1a-far", "1b-far", "1d-far"):
        baseline, *rows = TABLES[key].rows
        assert baseline == tables.ARMS[1] and not any(row.config or row.skipped for row in rows)
        for row in rows:
            norm = row.setting.norm
            assert norm["gain"] * starts[norm.get("relay", "lstm")] == 1
            assert dataclasses.replace(row.setting, norm={}) == Setting()
    named = {(key, row.name): row.setting for key in ("far", "1a-far", "1d-far") for row in TABLES[key].rows}
    assert named["1a-far", "method=cl+ct"] == named["1d-far", "method=dnr,relay=lstm"] == named["far", "dnr,gain=4"]


def norm_fields(model) -> dict:
    """The norms of a network as dotted fields, but for how many clips share statistics."""
    return {name: value for name, value in flatten(model.norm).items() if "clips_per_statistics" not in name}


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table.key}-{row.name}" for table, row in ROWS])
def test_a_row_trains_what_its_configuration_of_the_papers_scale_does(table, row, tmp_path):
    """Norms and interlacing of both scales agree, but for how many clips share statistics and where statistics are."""
    if not row.config or row.skipped:
        return
    paper = load_config(row.config).model
    name, fields = experiments.NETWORKS[row.setting.network]
    mini = experiments.named(experiments.Network, name)(**fields)
    experiments.set_norm(mini, row.setting)
    assert type(mini) is type(paper)
    assert norm_fields(mini) == norm_fields(paper)
    if hasattr(paper, "interlace"):
        assert row.setting.interlace == (paper.interlace is not None)


def test_wrong_names_are_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"--table: there is no 'arm' \(did you mean 'arms'\?\); tables: .*1a, 1b"):
        tables.find_table("arm")
    with pytest.raises(ConfigError, match=r"Table 1c has no 'depth=3' \(did you mean 'depth=[12]'\?\)"):
        tables.find_rows(TABLES["1c"], "depth=3")


def test_the_parts_of_a_rows_name_may_be_in_any_order():
    (row,) = tables.find_rows(TABLES["1a"], "location=2,method=ct")
    assert row.name == "method=ct,location=2"


def test_the_papers_figures_are_those_of_the_configurations_rows():
    """``configs/k200_ablation.py`` has the accuracies of Tables 1 and 3 beside what its rows set."""
    ablation = runpy.run_path(str(REPOSITORY / "configs" / "k200_ablation.py"))["ROWS"]
    named = {row.config.partition(":")[2]: row for _, row in ROWS if row.config.startswith("k200_ablation:")}
    assert set(named) == set(ablation)
    assert {name: row.accuracy for name, row in named.items()} == {name: row.accuracy for name, row in ablation.items()}
