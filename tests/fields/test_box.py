"""Modes on a box beside their formulas, products free of aliasing, and what is refused."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from expint import compile_plan, integrate, noise
from expint.convergence import SemiLinearProblem, strong_orders
from expint.fields import Box

KINDS = ("periodic", "neumann", "dirichlet")
L = 2.5


def mode(kind: str, modes: int, j: int, x: Tensor) -> tuple[Tensor, float]:
    """Mode j of an axis of length L at places x, and its wave number, from the definition."""
    unit = math.pi / L
    if kind == "dirichlet":
        return math.sqrt(2 / L) * torch.sin((j + 1) * unit * x), (j + 1) * unit
    if j == 0:
        return torch.full_like(x, math.sqrt(1 / L)), 0.0
    if kind == "neumann":
        return math.sqrt(2 / L) * torch.cos(j * unit * x), j * unit
    k = (j + 1) // 2 * 2 * unit
    return math.sqrt(2 / L) * (torch.cos if j % 2 else torch.sin)(k * x), k


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modes", [1, 2, 8, 9])
def test_modes_of_an_axis(kind: str, modes: int):
    box = Box(modes, L, kind)
    for j in range(modes):
        for points in (modes + 1, 2 * modes + 3):
            (places,) = box.places((points,))
            exact, k = mode(kind, modes, j, places)
            unit = torch.eye(modes, dtype=torch.float64)[j]
            torch.testing.assert_close(box.to_points(unit, (points,)), exact, rtol=0, atol=1e-13)
            torch.testing.assert_close(box.to_modes(exact), unit, rtol=0, atol=1e-13)
            assert -box.laplacian[j].item() == pytest.approx(k**2, rel=1e-14)


BOXES = [
    *(Box(8, L, kind) for kind in KINDS),
    Box(9, L),
    Box((6, 5), (1.0, L), ("periodic", "neumann")),
    Box((4, 5, 6), L, "dirichlet"),
]


@pytest.mark.parametrize("box", BOXES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transforms_are_inverse_and_keep_the_norm(box: Box, dtype: torch.dtype):
    """At as many points as modes too, where the highest mode has no partner; with components."""
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, *box.modes, generator=gen, dtype=dtype)
    axes = tuple(range(2, x.ndim))
    for points in (None, box.points(2), tuple(n + 1 for n in box.modes)):
        u = box.to_points(x, points)
        cell = math.prod(box.lengths) / math.prod(u.shape[2:])
        atol = 100 * torch.finfo(dtype).eps
        torch.testing.assert_close(box.to_modes(u), x, rtol=0, atol=atol)
        assert u.dtype == dtype
        torch.testing.assert_close(
            u.square().sum(axes) * cell, x.square().sum(axes), rtol=atol, atol=0
        )


def test_modes_of_several_axes_are_products():
    box = Box((3, 4, 2), (1.0, L, L), ("neumann", "periodic", "dirichlet"))
    places = box.places((5, 7, 3))
    for index in product(range(3), range(4), range(2)):
        unit = torch.zeros(box.modes, dtype=torch.float64)
        unit[index] = 1.0
        # On the axis of length 1 the mode of length L is √L times as large.
        places_on_L = (L * places[0], places[1], places[2])
        own = [
            mode(kind, n, j, x)[0]
            for kind, n, j, x in zip(box.boundary, box.modes, index, places_on_L, strict=True)
        ]
        own[0] = math.sqrt(L) * own[0]
        exact = own[0] * own[1] * own[2]
        torch.testing.assert_close(box.to_points(unit, (5, 7, 3)), exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("kind", "modes", "degree"),
    [("periodic", 9, 2), ("periodic", 9, 3), ("neumann", 8, 2), ("neumann", 8, 3),
     ("dirichlet", 7, 3)],
)  # fmt: skip
def test_powers_are_free_of_aliasing(kind: str, modes: int, degree: int):
    """The modes of u^p are those found on a very fine grid, but for the last sine; with too few
    points they are not."""
    box = Box(modes, L, kind)
    x = torch.randn(modes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.zeros(())
    exact = box.to_modes(box.to_points(x, (20 * modes,)) ** degree)
    found, coarse = (box.nonlinearity(lambda u, t: u**degree, p)(x, t) for p in (degree, 1))
    kept = slice(None, -1 if kind == "dirichlet" else None)
    torch.testing.assert_close(found[kept], exact[kept], rtol=0, atol=1e-12)
    assert (coarse - exact).abs().max() > 0.1


@pytest.mark.parametrize("modes", [8, 9, (6, 7)])
def test_derivative_and_the_energy_of_burgers(modes: Any):
    """−½ ∂(u²) leaves ∫ u² and ∫ u as they are, to rounding: only without aliasing it does."""
    box = Box(modes, L)
    gen = torch.Generator().manual_seed(2)
    x = torch.randn(box.modes, generator=gen, dtype=torch.float64)
    for axis, n in enumerate(box.modes):
        if n % 2 == 0:
            x.movedim(axis, 0)[-1] = 0.0  # the cosine without a partner
    for axis, kind in enumerate(box.boundary):
        step = torch.zeros_like(x)
        step.movedim(axis, 0)[1] = 1.0
        expected = torch.zeros_like(x)
        expected.movedim(axis, 0)[2] = -2 * math.pi / box.lengths[axis]
        torch.testing.assert_close(box.derivative(step, axis), expected)
        assert kind == "periodic"
    products = {
        p: box.nonlinearity(lambda u, t: -0.5 * u**2, p)(x, torch.zeros(())) for p in (1, 2)
    }
    change = {p: (x * box.derivative(v)).sum().abs().item() for p, v in products.items()}
    assert change[2] < 1e-12 < 1e-3 < change[1]
    assert box.derivative(products[2]).flatten()[0] == 0.0


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "seeds-sra", "seeds-ab2"])
@pytest.mark.parametrize("steps", [1, 7, 300])
def test_variance_of_the_heat_equation(solver: str, steps: int):
    """Every mode to 1e-12, from the plan alone, for ν|k|² h from 0 to 1.6e5."""
    box = Box((128, 2), (1.0, 2.0), ("periodic", "neumann"))
    plan = compile_plan(box.sde(1.0, 0.5, span=(0.0, 1.0)), solver, np.linspace(0, 1, steps + 1))
    found = torch.zeros(box.modes, dtype=torch.float64)
    for row, ends_step in zip(plan.rows, plan.ends_step, strict=True):
        if ends_step:
            found = (
                torch.as_tensor(row.scale) ** 2 * found + torch.as_tensor(plan.noise_std(row)) ** 2
            )
    rate = -2.0 * box.laplacian
    exact = torch.where(rate > 0, -torch.expm1(-rate) / rate.clamp(min=1e-300), 1.0)
    assert rate.max() > 3e5
    torch.testing.assert_close(found, 0.5 * exact, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modes", [8, 9])
def test_the_first_modes_are_those_of_a_smaller_box(kind: str, modes: int):
    coarse, fine = Box(modes, L, kind), Box(21, L, kind)
    x = torch.randn(modes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    longer = torch.nn.functional.pad(x, (0, 21 - modes))
    one, other = coarse.to_points(x, (30,)), fine.to_points(longer, (30,))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
    assert torch.equal(coarse.laplacian, fine.laplacian[:modes])
    normals, grid = torch.randn(3, 1, 21, generator=torch.Generator().manual_seed(1)), [0.0, 0.1, 1]
    ends = [
        integrate(box.sde(0.1, 1.0, span=(0.0, 1.0)), lambda x, t: 0 * x, start[None], grid,
                  "seeds-1", noise.Replay(normals[..., : len(start)])).x
        for box, start in ((coarse, x), (fine, longer))
    ]  # fmt: skip
    torch.testing.assert_close(ends[0], ends[1][:, :modes], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("power", [0, 1])
def test_covariance_of_the_heat_equation_at_rest(power: int):
    """Between zero walls that of white noise is (min(x, y) − xy)/2ν, and that of |k|⁻² noise is a
    polynomial of degree 4. Only what the modes beyond the first 128 add is missing."""
    box, nu, span = Box(128, boundary="dirichlet"), 0.3, (0.0, 1e3)
    sde = box.sde(nu, lambda k: k ** (-2.0 * power), span=span)
    variances = torch.as_tensor(compile_plan(sde, "seeds-1", span).rows[0].noise[0]) ** 2
    (x,) = box.places((200,))
    basis = box.to_points(torch.eye(128, dtype=torch.float64), 200)
    low, high = torch.minimum(x, x[:, None]), torch.maximum(x, x[:, None])
    exact = low * (1 - high) / (2 * nu)
    if power:
        exact = exact * (2 * high - low**2 - high**2) / 6
    tails = torch.arange(129, 10**5, dtype=torch.float64) ** (-2.0 - 2.0 * power)
    tail = tails.sum() / (2 * nu * math.pi ** (2 + 2 * power))
    off = exact - basis.T @ torch.diag(variances) @ basis
    assert off.abs().max() < 2.1 * tail
    assert off.diagonal().mean().item() == pytest.approx(tail.item(), rel=0.02)


def test_noise_of_a_periodic_field_is_homogeneous():
    """Independent real modes of an even spectrum: the covariance of two places is a function of
    their distance alone."""
    box = Box(9, L)
    basis = box.to_points(torch.eye(9, dtype=torch.float64), (12,))
    spectrum = torch.exp(box.laplacian)
    covariance = basis.T @ torch.diag(spectrum) @ basis
    turned = covariance.roll((1, 1), (0, 1))
    torch.testing.assert_close(turned, covariance, rtol=1e-12, atol=1e-13)


def test_strong_orders_of_allen_cahn():
    """Coloured noise on 32 modes, fine increments composed exactly; 24 paths, on which the
    standard errors of the orders are .02 and .05: seconds. benchmarks/allen_cahn_orders.py has
    256 modes."""
    box = Box(32, boundary="neumann")
    sde = box.sde(1e-3, lambda k: 0.1 / (1 + (k / 12) ** 2), span=(0.0, 2.0))
    start = box.to_modes(0.5 * torch.cos(3 * math.pi * box.places((32,))[0]))
    problem = SemiLinearProblem(sde, box.nonlinearity(lambda u, t: u - u**3, 3), start)
    first, second = strong_orders(
        ["seeds-1", "seeds-sra"], problem, steps=(16, 32, 64), paths=24, refine=4
    ).studies
    assert first.order >= 0.95, first.table()
    assert second.order >= 1.4, second.table()


@pytest.mark.parametrize("sizes", [(2, 2), (3, 3)])
def test_a_small_square_of_modes_is_no_matrix(sizes: tuple[int, int]):
    """And draws no warning, which would be an error here."""
    assert Box(sizes).sde(1.0, span=(0.0, 1.0)).event_ndim == 2


@pytest.mark.parametrize("modes", [8, 80])
@pytest.mark.parametrize("boundary", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_transformed_in_float32(modes: int, boundary: str, dtype: torch.dtype):
    box = Box(modes, boundary=boundary)
    x = torch.randn(2, modes, generator=torch.Generator().manual_seed(0)).to(dtype)
    F = box.nonlinearity(lambda u, t: u - u**3, 3)
    assert torch.equal(F(x, torch.zeros(())), F(x.float(), torch.zeros(())))
    sde = box.sde(0.1, span=(0.0, 1.0))
    assert integrate(sde, F, 0.1 * x, [0.0, 1.0], "seeds-1").x.dtype == dtype


def test_axes_count_from_either_end():
    box, x = Box((4, 6)), torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(box.derivative(x, -1), box.derivative(x, 1))
    assert torch.equal(box.to_points(x, 8), box.to_points(x, (8, 8)))


def test_parts_that_are_odd_in_k_are_refused():
    """They would be complex, i k³ for u_xxx, and no diagonal of real modes."""
    with pytest.raises(TypeError, match=r"complex tensor .* a real number or tensor is expected"):
        Box(9).sde(lambda d: 1j * (-d) ** 1.5, span=(0.0, 1.0))


def react(f: Callable[..., Any]) -> Tensor:
    return Box(8).nonlinearity(f, 3)(torch.zeros(2, 8), torch.zeros(()))


Make = Callable[[], Any]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box(0), r"modes is an integer >= 1, or one for each axis of the box, got 0"),
        (lambda: Box(8.0), "modes is an integer >= 1"),
        (lambda: Box(()), "modes is an integer >= 1"),
        (lambda: Box((4, 4, 4, 4)), "1 to 3 axes"),
        (lambda: Box(8, math.nan), "lengths is a finite number > 0"),
        (lambda: Box((8, 8), (1.0, 2.0, 3.0)), "lengths is a finite number > 0"),
        (lambda: Box(8, 1.0, "open"), r"boundary is one of \('periodic', 'neumann', 'dirichlet'\)"),
        (lambda: Box(8).points(0), "degree is an integer >= 1, got 0"),
        (lambda: Box(8).sde(math.nan, span=(0.0, 1.0)), "linear must be finite, got nan"),
        (lambda: Box(8).sde(1.0, math.inf, span=(0.0, 1.0)), "spectrum must be finite, got inf"),
        (lambda: Box(8).sde(1.0, lambda k: 1 - k, span=(0.0, 1.0)),
         r"spectrum is a variance, >= 0, got -24\.13\d* for \|k\| = "),
        (lambda: Box(8).sde(1.0, torch.ones(7), span=(0.0, 1.0)),
         r"spectrum must broadcast against the modes, \(8,\), got shape \(7,\)"),
        (lambda: Box(8).sde(lambda d: d[:3], span=(0.0, 1.0)), "linear must broadcast"),
        (lambda: Box(8).to_points(torch.zeros(2, 7)), r"modes has these .*\(8,\), got .*\(2, 7\)"),
        (lambda: Box((4, 4)).to_modes(torch.zeros(7)), "points has these .* 2 dimensions, got"),
        (lambda: Box(8).to_points(torch.zeros(2, 8), (7,)), "at least as many points, got 7"),
        (lambda: Box(8).to_modes(torch.zeros(2, 7)), "8 modes need at least as many points"),
        (lambda: Box(8, 1.0, "neumann").derivative(torch.zeros(8)), "only that along a periodic"),
        (lambda: Box(8).derivative(torch.zeros(2, 7)), r"modes has these .*\(8,\), got \(2, 7\)"),
        (lambda: Box(8).to_points(torch.zeros(8), (16, 16)), r"points is .*, got \(16, 16\)"),
        (lambda: Box(8).places((16.0,)), r"points is an integer >= 1, .* got \(16\.0,\)"),
        (lambda: react(lambda u, t: u.numpy()), "is real, got float32 ndarray"),
        (lambda: Box(80).to_points(torch.zeros(80) + 0j), "is real, got torch.complex64 Tensor"),
        (lambda: react(lambda u, t: torch.cat([u, u], -1)), r"last, \(16,\), got \(2, 32\)"),
        (lambda: react(lambda u, t: u[:, :8]), r"last, \(16,\), got \(2, 8\)"),
        (lambda: react(lambda u, t: 0.0), "is real, got a float"),
    ],
)  # fmt: skip
def test_what_is_refused(make: Make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_path_that_leaves_the_numbers_is_refused():
    """A path needs the noise time itself, e^{2|A|t}."""
    box = Box(64)
    heat = box.sde(1.0, 1.0, span=(0.0, 1.0))
    with pytest.raises(ValueError, match="fresh"):
        integrate(heat, lambda x, t: 0 * x, torch.zeros(1, 64), [0.0, 1.0], "seeds-1",
                  noise.BrownianPath([0]))  # fmt: skip


@pytest.mark.parametrize("boundary", ["periodic", "neumann", "dirichlet"])
def test_short_axes_by_matrices_are_the_transforms_of_long_ones(
    boundary: str, monkeypatch: pytest.MonkeyPatch
):
    """In any dimension, and with gradients after a first use in inference mode."""
    box = Box((6, 7, 8), (1.0, 2.0, 3.0), boundary)
    x = torch.randn(2, 6, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        short = box.to_points(x, (9, 8, 14))
    x.requires_grad_()
    (slope,) = torch.autograd.grad(box.to_modes(box.to_points(x, (9, 8, 14))).sum(), x)
    monkeypatch.setattr("expint.fields.axes.DENSE", dict.fromkeys(KINDS, 0))
    torch.testing.assert_close(short, box.to_points(x, (9, 8, 14)).detach(), rtol=0, atol=1e-13)
    torch.testing.assert_close(box.to_modes(short.clone()), x.detach(), rtol=0, atol=1e-13)
    torch.testing.assert_close(slope, torch.ones_like(x), rtol=0, atol=1e-13)
