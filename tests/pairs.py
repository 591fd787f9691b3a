"""Every schedule with one solver and every solver with one schedule: all of both registries, without their whole product."""

import pytest

from expint import schedules, solvers

PAIRS = [(name, "seeds-3") for name in schedules.names()] + [("vp", solver) for solver in solvers.names() if solver != "seeds-3"]
every_schedule_and_solver = pytest.mark.parametrize(("name", "solver"), PAIRS)
