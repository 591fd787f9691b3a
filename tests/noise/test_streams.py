"""Which numbers of a seed go where: streams that must share none."""

import itertools
import math

import torch

from expint.noise import BrownianPath, Gaussian, SubstepNoise, initial_state
from expint.schedules import EDM
from expint.targets import Gaussian as GaussianData
from expint.targets import GaussianMixture

N = 4096
BOUND = 6.0 / math.sqrt(N)


def parts(seed: int) -> dict[str, torch.Tensor]:
    """Standard normals of one seed by what they are for."""
    like, taus = torch.empty(1, N, dtype=torch.float64), torch.tensor([-1.0, 0.0, 1.0])
    fresh = Gaussian([seed]).stream(like, [SubstepNoise(1, True)] * 2)
    drawn = [z.clone() for _ in range(2) for z in fresh.normals(SubstepNoise(1, True))]
    low, high = BrownianPath([seed], 1).open(like).increments(taus.double()).clone()
    data = GaussianData([0.0] * N, 1.0, EDM()).sample(1, seed=seed)
    mixed = GaussianMixture([[0.0] * N], 1.0, None, EDM()).sample(1, seed=seed)
    names = ("increment", "integral", "next increment", "next integral")
    found = dict(zip(names, drawn, strict=True))
    found |= {"path below 0": low, "path above 0": high, "data": data, "mixture": mixed}
    return found | {"initial state": initial_state([seed], (N,), torch.float64)}


def test_no_two_uses_of_a_seed_share_numbers():
    """n = 4096: correlations within 6 standard errors, also with the numbers shifted by one."""
    found = {name: values.flatten() for name, values in parts(5).items()}
    for (one, a), (other, b) in itertools.combinations(found.items(), 2):
        if {one, other} == {"data", "mixture"}:
            continue
        for shift in (-1, 0, 1):
            assert abs(float((a * b.roll(shift)).mean())) < BOUND, (one, other, shift)


def test_seeds_that_differ_in_any_bit_share_no_numbers():
    kept = {k: parts(k) for k in (7, 7 + 2**31, 7 + 2**32, 7 + 2**63)}
    for (_, a), (_, b) in itertools.combinations(kept.items(), 2):
        for name in a:
            assert abs(float((a[name] * b[name]).mean())) < BOUND, name
