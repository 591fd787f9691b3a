"""The grid "edm_iddpm" takes the nearest entries of its table."""

import pytest
import torch

from expint.grids import edm_iddpm
from expint.schedules import IDDPM


@pytest.mark.parametrize("steps", [7, 18, 40])
def test_entries_are_the_nearest(steps: int):
    """On the schedule of the table itself, where entries are whole times: within half a time of
    evenly spread ones."""
    schedule = IDDPM(200)
    first, last = schedule.sampling_range
    times = edm_iddpm(schedule, steps, M=200, final="none")
    even = torch.linspace(first, last, steps + 1, dtype=torch.float64)
    torch.testing.assert_close(times, times.round(), rtol=0.0, atol=1e-6)
    assert float((times - even).abs().max()) <= 0.5 + 1e-6
