"""The direction of imports, as the contracts in pyproject.toml have it."""

import subprocess
import sys

from tests.paths import REPOSITORY


def test_imports_go_one_way():
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", lint, "--no-cache", "--no-logo"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
