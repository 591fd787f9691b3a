# %% [markdown]
"""# Define a schedule

A noise schedule in one line, what follows from it, and whether it is any good, without a network.
"""

# %%
from matplotlib import pyplot as plt

import expint
from expint import grids, targets
from expint.convergence import gaussian_moments
from expint.schedules import VP, Cosine, Symbolic

mine = Symbolic("exp(-2*t**2)", "tanh(3*t)", domain=(0, 1))
print(mine.latex())
print(f"sigma(0.5) = {mine.sigma(0.5):.3f}, its inverse {mine.t_of_sigma(mine.sigma(0.5)):.3f}")

# %% [markdown]
# An invalid one is refused, with the place where it fails: λ must decrease with t.

# %%
try:
    Symbolic("1 - t", "t*(1 - t)", domain=(0, 1))
except ValueError as error:
    print(error)
else:
    raise AssertionError("λ rises near t = 1")

# %% [markdown]
# On Gaussian data the law of the samples follows exactly from the plan. The error of the variance
# at 20 evaluations, over the standard deviation of the data, for three schedules:

# %%
stds = [0.1, 0.2, 0.5, 1.0, 2.0]
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
worst = {}
for name, schedule in {"mine": mine, "VP": VP(), "cosine": Cosine()}.items():
    target = targets.Gaussian([0.0] * len(stds), [s**2 for s in stds], schedule)
    plan = expint.plan_sampling(schedule, "seeds-3", nfe=20, grid=grids.uniform_lambda)
    variance = gaussian_moments(plan, target)[1]
    errors = [abs(float(v) / s**2 - 1) for v, s in zip(variance, stds, strict=True)]
    worst[name] = max(errors)
    axis.loglog(stds, errors, "o-", label=name)
axis.set(xlabel="standard deviation of the data", ylabel="relative error of the variance")
axis.legend()
figure.savefig("define.png")
print(worst)
assert max(worst.values()) < 0.5

# %% [markdown]
# It samples like any other: a mixture of two modes, whose mean is (0, 0.25).

# %%
mixture = targets.GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], 0.2, None, mine)
x = expint.sample(mixture, (2000, 2), "seeds-3", nfe=30, seed=0, progress=False)
exact = mixture.sample(2000, seed=1)
distance = float(expint.metrics.sliced_wasserstein(x, exact))
floor = float(expint.metrics.sliced_wasserstein(mixture.sample(2000, seed=2), exact))
print(f"sliced W2 {distance:.3f}, floor {floor:.3f}")
