"""Config files."""

import pytest

from dnr_jax.config import (
    ConfigError,
    ExperimentConfig,
    find_config,
    list_configs,
    load_config,
    read_command_line,
    to_json,
)
from tests.config.experiments import valid_config
from tests.paths import REPOSITORY

pytestmark = pytest.mark.compat


@pytest.mark.parametrize(
    ("content", "argument", "message"),
    [
        ("def get_config(:", "", r"line 1: SyntaxError: invalid syntax"),
        ("import nothing_of_this_name", "", "line 1: ModuleNotFoundError: No module named"),
        ("x = 1", "", "has no function get_config"),
        ("def get_config(): pass", "", "get_config returned nothing; expected an ExperimentConfig"),
        ("def get_config(arg=''): return {}", "", "get_config returned a dict; expected an ExperimentConfig"),
        ("def get_config(arg=''):\n  return {}[arg]", ":bn", "line 2: KeyError: 'bn'"),
        ("def get_config(): pass", ":bn", "TypeError: get_config.. takes 0 positional arguments but 1 was given"),
        ("raise __import__('dnr_jax').config.ConfigError('no such arm')", "", "^no such arm$"),
    ],
)
def test_a_config_file_that_cannot_be_used_is_named(content, argument, message, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(f"{file}{argument}")


def test_the_config_of_a_run_is_no_config_file(tmp_path):
    (tmp_path / "config.json").write_text(to_json(valid_config()))
    with pytest.raises(ConfigError, match="is what a run saved; expected a config file in Python"):
        load_config(str(tmp_path / "config.json"))


def test_a_colon_in_a_path_is_no_argument(tmp_path):
    folder = tmp_path / "12:30"
    folder.mkdir()
    (folder / "mine.py").write_text("from dnr_jax.config import *\ndef get_config(arg=''): return ExperimentConfig()")
    assert load_config(f"{folder}/mine.py:arm") == load_config(f"{folder}/mine.py") == ExperimentConfig()
    given = ["train.py", f"--config={folder}/mine.py:arm"]
    assert read_command_line(given, "configs/demo.py", REPOSITORY)[1] == f"{folder}/mine.py:arm"


CONFIG = "from dnr_jax.config import ExperimentConfig\ndef get_config(arg=''): return ExperimentConfig()\n"


def test_the_project_s_own_files_are_found_from_any_folder_behind_those_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = REPOSITORY / "configs" / "demo.py"
    assert find_config("demo:bn") == find_config("configs/demo.py:bn") == f"{shipped}:bn"
    assert load_config("k400_tsn_dnr").model.num_classes == 400
    (tmp_path / "configs").mkdir()
    for own in ("configs/demo.py", "demo.py"):  # the working directory comes before its configs/
        (tmp_path / own).write_text(CONFIG)
        assert find_config("demo") == own
        assert load_config("demo") == ExperimentConfig()
    with pytest.raises(ConfigError, match=r"did you mean 'configs/own_videos.py'\?\).*, configs/prepared.py, "):
        find_config("own_video")


def test_configs_are_listed_with_the_first_line_of_their_docstring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = list_configs()
    assert sorted(listed) == list(listed) == sorted(path.stem for path in (REPOSITORY / "configs").glob("*.py"))
    assert listed["k400_tsn_dnr"].endswith("trained from scratch: the authors' configuration.")
    assert all(listed.values())
    (tmp_path / "configs").mkdir()
    for name, text in {
        "demo": f'"""Mine.\n\nMore."""\n{CONFIG}',
        "plain": CONFIG,
        "broken": "def get_config(:",
        "helper": "x = 1",
    }.items():
        (tmp_path / "configs" / f"{name}.py").write_text(text)
    added = dict(list_configs().items() - listed.items())
    assert added.pop("broken").startswith("cannot be read: SyntaxError: ")
    assert added == {"demo": "Mine.", "plain": ""}
