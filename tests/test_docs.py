"""The documentation is true: its snippets run, its links resolve, its commands name flags and files that exist."""

import dataclasses
import itertools
import os
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import pytest

from dnr_jax import cli, train_command
from dnr_jax.config import ExperimentConfig, read_command_line, registered
from dnr_jax.config.parts import is_choice, kind_of
from tests.paths import REPOSITORY

PAGES = sorted(
    page for pattern in ("*", "docs/**/*", "colabs/*", "configs/*") for page in REPOSITORY.glob(f"{pattern}.md")
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


def page_id(page: pathlib.Path) -> str:
    return str(page.relative_to(REPOSITORY))


def blocks(page: pathlib.Path, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(page.read_text()) if found == language]


def commands(page: pathlib.Path) -> list[list[str]]:
    """The words of every command in a page's shell blocks; ``a && b`` is two commands, a comment none."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    parts = [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words for part in parts if (words := list(itertools.dropwhile(is_assignment, part)))]


def is_assignment(word: str) -> bool:
    return re.match(r"[A-Z_]+=", word) is not None


def anchors(page: pathlib.Path) -> set[str]:
    """Anchors that GitHub gives to a page's headings."""
    text = BLOCK.sub("", page.read_text())
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def config_fields(config: object, prefix: str = "config") -> set[str]:
    """Full names of all fields that ``--config.a.b=value`` can set, and of the parts that it can choose."""
    names = set()
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}.{field.name}"
        names.add(name)
        choices = [choice() for choice in registered(kind_of(type(value))).values()] if is_choice(value) else [value]
        for choice in filter(dataclasses.is_dataclass, choices):
            names |= config_fields(choice, name)
    return names


FIELDS = config_fields(ExperimentConfig())


PROGRAMS = [(page, i) for page in PAGES for i, _ in enumerate(blocks(page, "python"))]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "i"), PROGRAMS, ids=[f"{page_id(page)}-{i}" for page, i in PROGRAMS])
def test_every_program_of_a_page_runs_alone(page, i, tmp_path):
    """Copied from the page into an empty folder and run by a user's Python: no setting of these tests."""
    program = tmp_path / "page.py"
    program.write_text(blocks(page, "python")[i])
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(REPOSITORY),
        "XDG_CACHE_HOME": str(tmp_path),
        "MPLCONFIGDIR": str(tmp_path),
        # Most of the time goes into compiling: with few optimisations, and not again in the next run of the tests.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_the_relative_links_of_a_page_resolve(page):
    text = BLOCK.sub("", page.read_text())
    for target in (inline or attribute for inline, attribute in LINK.findall(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page_id(page)} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page_id(page)}: {target} has no such heading"


# The flags in CONTRIBUTING.md are those of its recipes, which tests/test_contributing.py executes.
CONFIGURED = [page for page in PAGES if page.name != "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", CONFIGURED, ids=page_id)
def test_config_flags_of_a_page_exist(page):
    for flag in re.findall(r"--(config\.[\w.]+)", page.read_text()):
        assert flag in FIELDS, f"{page_id(page)}: --{flag}"


def test_settings_of_other_programs_are_fields_here():
    page = (REPOSITORY / "docs/coming_from.md").read_text()
    rows = [line.split("|") for line in page.partition("## Settings")[2].splitlines() if line.startswith("|")][2:]
    named = [re.findall(r"`([a-z][\w.]+)(?:=\w+)?`", row[3]) for row in rows]
    assert len(rows) > 30 and all(named)
    assert {f"config.{name}" for names in named for name in names} <= FIELDS


@pytest.mark.parametrize("page", CONFIGURED, ids=page_id)
def test_training_commands_of_a_page_are_accepted(page):
    """The config file exists, the fields exist and their values have the right type."""
    own_flags = set(train_command._own_flags())
    for words in commands(page):
        if words[:2] not in (["python", "train.py"], ["dnr", "train"]):
            continue
        _, _, rest = read_command_line(words[1:], "configs/demo.py", REPOSITORY)
        for argument in rest[1:]:
            name = argument.lstrip("-").partition("=")[0].removeprefix("no")
            assert name in own_flags, f"{page_id(page)}: {argument}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_dnr_commands_of_a_page_are_accepted(page):
    for words in commands(page):
        if words[0] == "dnr":
            cli._parser().parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_that_a_page_names_exist(page):
    """Whatever looks like a file of the repository, in the text and in the commands."""
    names = re.findall(r"(?<![\w/.])((?:configs|colabs|dnr_jax|docs|tests|benchmarks)/[\w./-]+\.\w+)", page.read_text())
    for name in names:
        assert (REPOSITORY / name).exists(), f"{page_id(page)} names {name}"


def test_the_readme_has_the_two_commands():
    text = (REPOSITORY / "README.md").read_text()
    assert "\npip install . && python train.py\n" in text
    assert "\npip install '.[test]' && pytest\n" in text


def test_scripts_that_pages_run_exist():
    for page in PAGES:
        for words in commands(page):
            if words[0] in ("python", "python3") and words[1].endswith(".py"):
                assert (REPOSITORY / words[1]).exists(), f"{page_id(page)}: {' '.join(words)}"


def test_the_text_that_a_citation_needs_is_there():
    text = (REPOSITORY / "CITATION.cff").read_text()
    assert all(word in text for word in ("Cai", "Yao", "Chen", "Dynamic Normalization and Relay", "2021"))
