"""What `import expint` does not import: what only studies, pictures and formulas need."""

import json
import subprocess
import sys

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


# In this order none of them has been imported by one before it.
ASKED = {
    "expint.targets.Gaussian": "expint.targets",
    "expint.schedules.Symbolic": "sympy",
    "expint.convergence": "expint.convergence",
    "expint.quality": "expint.quality",
}
CODE = """
import json, sys
import expint

held = [[*sys.modules]]
for asked in json.loads(sys.argv[1]):
    eval(asked)
    held.append([*sys.modules])
print(json.dumps(held))
"""


def test_what_is_imported_when():
    """`import expint` is lean, and the rest comes when it is asked for, and not before."""
    command = [sys.executable, "-c", CODE, json.dumps([*ASKED])]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *after = (set(names) for names in json.loads(run.stdout))
    assert not LATER & first
    before = first
    for module, held in zip(ASKED.values(), after, strict=True):
        assert module not in before and module in held
        before = held
