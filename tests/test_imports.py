"""What `import expint` does not import: what only studies, pictures and formulas need."""

import json
import subprocess
import sys

import pytest

LATER = {
    "expint.convergence",
    "expint.metrics",
    "expint.quality",
    "expint.targets",
    "matplotlib",
    "scipy.interpolate",
    "scipy.special",
    "scipy.stats",
    "sympy",
    "torchsde",
}


def imported_by(code: str) -> set[str]:
    """The modules that a new interpreter holds after `code`."""
    shown = f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_import_is_lean():
    assert not LATER & imported_by("import expint")


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("expint.convergence", "expint.convergence"),
        ("expint.quality", "expint.quality"),
        ("expint.targets.Gaussian", "expint.targets"),
        ("expint.schedules.Symbolic", "sympy"),
    ],
)
def test_the_rest_comes_when_it_is_asked_for(code: str, module: str):
    assert module in imported_by(f"import expint; {code}")
