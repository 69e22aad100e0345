import runpy

from dnr_jax.config import ExperimentConfig, load_config, override, to_json
from dnr_jax.report import recipe


def test_only_what_differs_is_listed():
    assert recipe.changes(ExperimentConfig()) == []
    arguments = ["--config.model=TSM", "--config.train.seed=3", "--config.train.averaging=EMA"]
    config, _ = override(ExperimentConfig(), arguments)
    found = {change.field: (change.value, change.default) for change in recipe.changes(config)}
    assert found == {"model": ("TSM", "TSN"), "train.seed": (3, 0), "train.averaging": ("EMA", None)}


def test_the_fields_in_which_experiments_differ():
    one, other = ExperimentConfig(), ExperimentConfig()
    other.train.seed, other.optimizer.learning_rate = 1, 0.5
    assert recipe.differing([one, other]) == ["optimizer.learning_rate", "train.seed"]
    assert recipe.differing([one]) == []


def test_the_commands_repeat_the_run(tmp_path):
    folder = tmp_path / "a run's"
    folder.mkdir()
    config = load_config("demo")
    (folder / "config.json").write_text(to_json(config))
    (_, again), (_, evaluate), _ = recipe.commands(str(folder), "10x3 of 224")
    program = again.split("<< 'END'\n")[1].split("END\n")[0]
    (tmp_path / "again.py").write_text(program)
    assert runpy.run_path(str(tmp_path / "again.py"))["get_config"]() == config
    assert evaluate.endswith("--views 10x3")


def test_versions_name_what_computes():
    assert {"dnr_jax", "jax", "python"} <= recipe.versions().keys()
