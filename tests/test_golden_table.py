import pytest

from tests import golden_table
from tests.golden_networks import network_of


def test_the_worst_error_of_each_kind_is_taken():
    errors = {
        "eval/logits/full": 1e-8,
        "eval2/logits/slice": 3e-8,
        "train/loss": 2e-8,
        "grad/input/head": 4e-7,
        "grad_norms": 5e-7,
        "stat/bn1.running_var/head": 1e-9,
        "stat_norms": 2e-9,
    }
    assert golden_table.worst_errors(errors) == {"outputs": 3e-8, "gradients": 5e-7, "statistics": 2e-9}
    assert golden_table.worst_errors({}) == {"outputs": 0.0, "gradients": 0.0, "statistics": 0.0}


def test_a_row_a_case(monkeypatch, capsys, tmp_path):
    (tmp_path / "golden" / "cases").mkdir(parents=True)
    for name in ("tsn_r18", "r2plus1d_r34", "of_another_project", "tsn_r152_96"):
        (tmp_path / "golden" / "cases" / f"{name}.json").touch()
    monkeypatch.setenv("DNR_SHARED", str(tmp_path))
    monkeypatch.setattr(golden_table, "row", lambda name, shared: [name, shared.name, "1", "2", "3"])
    golden_table.main([])
    header, rule, *rows = capsys.readouterr().out.splitlines()
    assert header == "| case | reference | outputs | gradients | statistics |"
    assert rule == "| --- | --- | --- | --- | --- |"
    assert rows == [f"| {name} | {tmp_path.name} | 1 | 2 | 3 |" for name in ("r2plus1d_r34", "tsn_r18", "tsn_r152_96")]
    golden_table.main(["r2plus1d_r34"])
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("case", "name", "depth"),
    [
        ("tsn_r50_112", "tsn", 50),
        ("tsm_r152", "tsm", 152),
        ("tdn_r101_64", "tdn", 101),
        ("slowfast_r34_4x16_96", "slowfast", 34),
        ("slowfast_fb_r18_8x8", "slowfast", 18),
        ("dnr_r101_g8", "tsn", 101),
        ("tsn_bninception_96", "bninception", 0),
    ],
)
def test_a_case_of_another_depth_or_size_has_its_network(case, name, depth):
    network = network_of(case)
    assert (type(network.config).__name__.lower(), getattr(network.config, "depth", 0)) == (name, depth)


def test_what_is_no_network_has_none():
    assert [network_of(case) for case in ("unit_ct_g4", "tsn_r19", "tsn", "slowfast_r50_2x32")] == [None] * 4


def test_a_case_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        golden_table.main(["tsn_r19"])
    assert "no case tsn_r19" in capsys.readouterr().err
