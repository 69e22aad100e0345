"""The golden table: how far the networks here are from the reference implementations, a row a case.

    python -m tests.golden_table

Names of cases behind it leave the others out; the values are looked for in ``$DNR_SHARED/golden``.

Every network in float64 on recipe weights, against the values that the peers' PyTorch code gave. A column is the worst
relative error (L2) of all stored arrays of its kind: outputs and features in eval mode, in training mode and in eval
mode with the statistics of that step; gradients of parameters and input; running statistics.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from tests import golden
from tests.golden_networks import NETWORKS, network_of, stored, values
from tests.paths import shared_folder
from tests.precision import float64

KINDS = {"outputs": ("eval/", "eval2/", "train/"), "gradients": ("grad/", "grad_norms"), "statistics": ("stat",)}
HEADER = ("case", "reference", *KINDS)


def worst_errors(errors: Mapping[str, float]) -> dict[str, float]:
    """Return the largest error of each kind; an array that nothing is said of is exact."""
    return {
        kind: max((error for key, error in errors.items() if key.startswith(prefixes)), default=0.0)
        for kind, prefixes in KINDS.items()
    }


def row(name: str, shared: pathlib.Path) -> list[str]:
    """Compute one row of the table."""
    with float64():
        case = golden.load(shared, name)
        worst = worst_errors(golden.errors(case, values(case)))
    return [name, case.meta["peer"], *(f"{error:.1e}" for error in worst.values())]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows under :data:`HEADER`, as Markdown."""
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of the named cases, or of all that have golden values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    names, shared = parser.parse_args(argv).cases, shared_folder()
    if unknown := [name for name in names if not network_of(name)]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(NETWORKS)}, their other depths and sizes")
    print(table([row(name, shared) for name in tqdm(names or stored(shared), unit="case")]))


if __name__ == "__main__":
    main()
