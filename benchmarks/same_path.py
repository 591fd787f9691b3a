"""One Brownian path, one network: how far the image at few evaluations is from the image that the
same path gives in the limit.

For each solver and each number of network evaluations the root-mean-square distance, per pixel,
between the sample and the sample of the same seeds and the same path at many steps of `seeds-sra3`.
Prints a table; `--out` writes a picture of rows.

    python benchmarks/same_path.py [--model digits-edm] [--num 64] [--reference 2000] [--out
    docs/img/same-path.png]
"""

import click
import torch
from tqdm import tqdm

import expint
from diffusion_adapters import load

SOLVERS = ("seeds-1", "seeds-2", "seeds-3", "seeds-sra", "seeds-sra3")
NFES = (20, 40, 80, 160)


def images(name, num, solver, seed, resolution, **length):
    """Samples of `num` seeds on their own paths, shape (num, *event), float32."""
    model = load(name)
    if model.label_dim:
        model = model.with_labels([i % model.label_dim for i in range(num)])
    path = expint.noise.BrownianPath(expint.noise.per_sample(seed, num), resolution=resolution)
    return expint.sample(
        model, (num, *model.shape), solver, seed=seed, noise=path, progress=False, **length
    )


def distance(a, b):
    """Root-mean-square difference per pixel."""
    return (a - b).square().mean().sqrt().item()


def draw(rows, limit, path):
    """One row of images per solver and NFE, the limit at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = [*rows.items(), (("limit", ""), limit)]
    figure, axes = plt.subplots(len(lines), 1, figsize=(6.4, 0.62 * len(lines)))
    for axis, ((solver, nfe), batch) in zip(axes, lines, strict=True):
        axis.imshow(torch.cat(list(batch[:10, 0]), 1), cmap="gray", vmin=-1, vmax=1, aspect="equal")
        axis.set_ylabel(f"{solver} {nfe}", rotation=0, ha="right", va="center", fontsize=8)
        axis.set_xticks([]), axis.set_yticks([])
    figure.subplots_adjust(left=0.2, right=0.99, top=0.99, bottom=0.01, hspace=0.06)
    figure.savefig(path, dpi=110)


@click.command()
@click.option("--model", default="digits-edm")
@click.option("--num", default=64)
@click.option("--seed", default=0)
@click.option("--reference", default=2000, help="Steps of the reference, by seeds-sra3.")
@click.option(
    "--resolution", default=2**12, help="Leaves of the path per e-fold of the noise clock."
)
@click.option("--out", default=None, help="A PNG of rows.")
def main(model, num, seed, reference, resolution, out):
    """Print the table, draw the rows."""
    limit = images(model, num, "seeds-sra3", seed, resolution, steps=reference)
    print(
        f"{model}, {num} samples, RMS distance per pixel (range [-1, 1]) to {reference} steps of "
        "seeds-sra3 on the same path"
    )
    print(f"{'solver':<11}" + "".join(f"{f'NFE {nfe}':>10}" for nfe in NFES))
    rows = {}
    for solver in tqdm(SOLVERS):
        distances = []
        for nfe in NFES:
            batch = images(model, num, solver, seed, resolution, nfe=nfe)
            distances.append(distance(batch, limit))
            if nfe in (20, 80):
                rows[solver, nfe] = batch
        print(f"{solver:<11}" + "".join(f"{d:>10.4f}" for d in distances))
    if out:
        draw(rows, limit, out)


if __name__ == "__main__":
    main()
