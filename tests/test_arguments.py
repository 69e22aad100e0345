import argparse
import os

import pytest

from dnr_jax import cli
from dnr_jax.arguments import add_checkpoint, path_from, whole


def test_paths_are_expanded_and_never_empty(monkeypatch):
    monkeypatch.setenv("HOME", "/people/one")
    assert path_from("~/videos") == "/people/one/videos"
    assert path_from("videos/a.mp4") == os.path.join("videos", "a.mp4")
    with pytest.raises(argparse.ArgumentTypeError, match="is empty; expected a path"):
        path_from("")


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("12", 12)])
def test_whole_numbers_are_read(text, number):
    assert whole(1)(text) == whole(1, 12)(text) == number


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "one", "13"])
def test_other_numbers_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number from 1 to 12"):
        whole(1, 12)(text)


def test_a_bound_can_be_left_open():
    assert whole(0)("1000000") == 1000000
    with pytest.raises(argparse.ArgumentTypeError, match="'3' is not a whole number of 4 or more"):
        whole(4)("3")


def test_the_network_after_the_last_step_is_the_default():
    parser = argparse.ArgumentParser()
    add_checkpoint(parser, "; and so on")
    assert parser.parse_args([]).checkpoint == "latest"
    assert parser.parse_args(["--checkpoint", "best"]).checkpoint == "best"
    assert "best validation top-1; and so on" in " ".join(parser.format_help().split())
    with pytest.raises(SystemExit):
        parser.parse_args(["--checkpoint", "first"])


@pytest.mark.parametrize(
    "words",
    [["report", ""], ["compare", ""], ["serve", ""], ["explain", ""], ["features", ""], ["report", "run", "--out", ""]],
)
def test_no_command_takes_an_unset_variable_for_this_folder(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "is empty; expected a path" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_an_empty_video_is_left_to_its_turn(command):
    assert cli._parser().parse_args([command, "run", "", "~/a.mp4"]).videos[-2:] == ["", os.path.expanduser("~/a.mp4")]
