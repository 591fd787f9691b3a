"""Every schedule with one solver and every solver with one schedule: all of both registries,
without their whole product.
"""

import pytest
from solver_kinds import ONE_STEP

from expint import schedules

PAIRS = [(name, "seeds-3") for name in schedules.names()] + [
    ("vp", solver) for solver in ONE_STEP if solver != "seeds-3"
]
every_schedule_and_solver = pytest.mark.parametrize(("name", "solver"), PAIRS)
