# %% [markdown]
"""# Sample a network

A shipped network, 10 evaluations a sample: what the settings change, with the same noise each
time. A notebook in percent cells: editors and Jupyter (through jupytext) run it cell by cell, and
`python examples/notebooks/sample.py` as a whole.
"""

# %%
import torch
from matplotlib import pyplot as plt

import expint
from diffusion_adapters import load

model = load("digits-edm", labels=list(range(10)))
shape = (10, *model.shape)
print({name: model.card[name] for name in ("name", "prediction", "schedule", "parameters")})

# %% [markdown]
# Choose nothing, then a solver, then the amount of noise ℓ. One seed is one set of noise, whatever
# the settings.

# %%
settings = {
    "chosen by the rule: seeds-ab2, ℓ = 1": {"grid": "default"},
    "unipc-2, the ODE": {"solver": "unipc-2", "ell": 0.0},
    "ddpm": {"solver": "ddpm"},
}
samples = {
    name: expint.sample(model, shape, nfe=10, seed=0, progress=False, **how)
    for name, how in settings.items()
}

# %%
figure, axes = plt.subplots(len(samples), 10, figsize=(8, 3.2), layout="constrained")
for row, (name, images) in zip(axes, samples.items(), strict=True):
    for axis, image in zip(row, images, strict=True):
        axis.imshow(image[0].numpy(), cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
    row[0].set_title(name, loc="left", fontsize=8)
figure.savefig("sample.png")

# %% [markdown]
# How far are they from what the network makes with 60 evaluations on the same noise? At ℓ = 0 the
# seed decides the image, so that the distance falls as evaluations rise.

# %%
fine = expint.sample(model, shape, "unipc-2", ell=0.0, nfe=60, seed=0, progress=False)
errors = {}
for nfe in (5, 10, 20):
    x = expint.sample(model, shape, "unipc-2", ell=0.0, nfe=nfe, seed=0, progress=False)
    errors[nfe] = (x - fine).square().mean().sqrt().item()
    print(f"{nfe:3d} evaluations: {errors[nfe]:.4f} per pixel")
assert errors[5] > errors[10] > errors[20]

# %% [markdown]
# Sample i of a run depends on the seed and i alone, not on the batch.

# %%
torch.manual_seed(1)  # has no effect
part = load("digits-edm", labels=[3, 4, 5])
again = expint.sample(
    part, (3, *model.shape), nfe=10, seed=0, start=3, progress=False, **settings["ddpm"]
)
assert torch.allclose(again, samples["ddpm"][3:6], atol=1e-4)
