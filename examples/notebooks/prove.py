# %% [markdown]
"""# Prove an order

A tableau of your own: its orders derived in exact arithmetic, measured, and the law of its noise
compared with the equation's.
"""

# %%
from fractions import Fraction

from expint import plan_sampling, schedules, solvers, targets
from expint.convergence import Problem, deterministic_order, noise_covariance, weak_order
from expint.solvers import Stage, Tableau

# %% [markdown]
# Two stages: to c = 2/5 from the first evaluation, then to the end through both. `Stage(target,
# through=...)` interpolates.

# %%
mine = Tableau(
    "mine",
    (Stage(Fraction(2, 5), through=(0,)), Stage(Fraction(1), through=(0, 1))),
    "this notebook",
)
method = solvers.get(mine)
print("derived:", method.deterministic_order, method.weak_order, method.strong_order)
assert method.deterministic_order == 2

# %% [markdown]
# Measured without noise, on a mixture of three Gaussians; and weak, on Gaussian data, by exact
# moments.

# %%
vp = schedules.VP()
mixture = targets.GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]], 0.6, None, vp)
problem = Problem(mixture, form="data", ell=1.0, sigmas=(5.0, 0.1))
study = deterministic_order(mine, problem, steps=(16, 32, 64), starts=16)
print(study.table())
assert abs(study.order - 2.0) < 0.2

gaussian = Problem(targets.Gaussian([0.7, -1.0], [0.3, 2.0], vp))
weak = weak_order(mine, gaussian, steps=(160, 320, 640))
print(weak.table())
assert abs(weak.order - 2.0) < 0.2

# %% [markdown]
# The joint law of the noise in all states of a run, against quadrature of the equation.

# %%
plan = plan_sampling(vp, mine, grid=[0.9, 0.6, 0.4, 0.2])
noise = noise_covariance(plan)
print(noise.table())
assert noise.error < 1e-10
