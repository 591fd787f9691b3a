"""Tableaus as data: exact order conditions, the interpolation helper, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction as Q
from typing import Any

import pytest
import torch

from expint import solvers
from expint.solvers import Method, Stage, Tableau, Term, seeds1, seeds2, seeds3, seeds3b
from expint.solvers.interpolation import interpolation_weights, lagrange_coefficients
from expint.solvers.tableau import rational

# Named here to pin their orders down; a solver that is not named is still checked by the tests over
# the registry.
ORDERS = {"seeds-1": 1, "seeds-2": 2, "seeds-3": 3, "seeds-3b": 3}
every_solver = pytest.mark.parametrize("name", solvers.names())


def test_registered_orders():
    assert ORDERS == {name: solvers.get(name).deterministic_order for name in ORDERS}


@every_solver
def test_every_tableau_is_sound(name: str):
    method = solvers.get(name)
    tableau = method.tableau
    assert 1 <= method.deterministic_order <= 4
    endless = method.ell == float("inf")
    assert method.strong_order >= 1 or endless or method.operations  # whose noise is not the path's
    biased = endless or not all(operation.preserves_law for operation in method.operations)
    assert 1 - biased <= method.weak_order <= method.deterministic_order
    assert method.source and solvers.entries()[solvers.names().index(name)].summary
    assert tableau.noise_nodes[-1] == 1 and list(tableau.noise_nodes) == sorted(
        set(tableau.noise_nodes)
    )
    evaluations = len(tableau.evaluation_nodes) + len(tableau.slopes)
    assert tableau.evaluation_nodes[0] == 0 and evaluations == tableau.evaluations + tableau.reuse
    for row in tableau.terms:
        for terms in row.values():
            assert all(
                isinstance(term.q, Q) and isinstance(term.scale, Q) and term.k >= 0
                for term in terms
            )


@every_solver
def test_a_planted_wrong_coefficient_is_seen(name: str):
    """Move 1/1000 of a weight: between two evaluations it costs an order, on one alone constants
    are no longer exact.
    """
    tableau = solvers.get(name).tableau
    *early, last = tableau.stages

    def with_changes(first: Q, final: Q) -> Tableau:
        """The last row with multiples of φ_1 added to the weights of the first and the last of its
        evaluations.
        """

        def rule(c: Q, nodes: Sequence[Q]) -> list[list[tuple[Any, ...]]]:
            rows = [
                list(row)
                for row in (last.weights.values() if last.weights else last.placed(c, nodes))
            ]
            rows[0].append((first, 1))
            rows[-1].append((final, 1))
            return rows

        return replace(tableau, stages=(*early, Stage(last.c, through=last.sources, rule=rule)))

    with pytest.raises(ValueError, match="not exact for constant F"):
        with_changes(Q(1, 1000), Q(0))
    if len(last.sources) > 1:
        assert with_changes(Q(1, 1000), Q(-1, 1000)).order() == 1


def test_each_phi_of_the_third_order_row_matters():
    """1 ← {0, 2/3}: b_3 = (3/2) φ_2. A 0.1 % error in φ_2's factor leaves order 1; swapping φ_2 for
    φ_1/2 leaves order 2.
    """
    early = seeds3().stages[:2]

    def order(*terms: Term) -> int:
        back = tuple(Term(-t.q, t.k, t.scale) for t in terms)
        last = Stage(Q(1), weights={0: (Term(Q(1), 1, Q(1)), *back), 2: terms})
        return Tableau("trial", (*early, last)).order()

    assert order(Term(Q(3, 2), 2, Q(1))) == 3
    assert order(Term(Q(1501, 1000), 2, Q(1))) == 1
    assert order(Term(Q(3, 4), 1, Q(1))) == 2


@pytest.mark.parametrize(("r1", "r2"), [("1/4", "3/5"), (Q(1, 2), 1), (0.3, 0.9), ("1/3", "1/2")])
def test_other_nodes_of_seeds_3(r1: object, r2: object):
    """Third order needs the rows of Luan & Ostermann unless r2 = 2/3; the published rows are then
    of order 2.
    """
    assert seeds3(r1, r2).order() == 3  # type: ignore[arg-type]
    assert seeds3(r1, r2, published_row=True).order() == 2  # type: ignore[arg-type]
    assert seeds3(r1, Q(2, 3)).order() == 3  # type: ignore[arg-type]
    assert seeds3(r1, Q(2, 3)).stages[2].through == (0, 2)  # type: ignore[arg-type]
    # A last row through all three gives weight to r1, whose stage is of first order only, unless r2
    # = 2/3.
    assert seeds3b(r1, r2).order() == 2  # type: ignore[arg-type]
    assert seeds3b(r1, Q(2, 3)).order() == 3  # type: ignore[arg-type]


def test_rows_of_luan_and_ostermann():
    """2(γc_2 + c_3) = 3(γc_2² + c_3²), b_2 = γφ_2/(γc_2 + c_3), b_3 = φ_2/(γc_2 + c_3), with γ
    solved for here.
    """
    c2, c3 = Q(1, 4), Q(3, 5)
    gamma = (2 * c3 - 3 * c3**2) / (3 * c2**2 - 2 * c2)
    total = gamma * c2 + c3
    _, middle, last = seeds3(c2, c3).terms
    assert last[1] == (Term(gamma / total, 2, Q(1)),) and last[2] == (Term(1 / total, 2, Q(1)),)
    assert middle[1] == (Term(gamma * c2, 2, c2), Term(c3**2 / c2, 2, c3))


@pytest.mark.parametrize("c", [Q(1, 3), Q(1, 2), Q(2, 3), 1, 0.3])
def test_seeds_2_is_of_second_order_for_every_node(c: object):
    tableau = seeds2(c)  # type: ignore[arg-type]
    assert tableau.order() == 2
    final = {j: sum(t.q for t in terms if t.k == 1) for j, terms in tableau.terms[1].items()}
    node = tableau.stages[0].c
    assert final.get(1) == 1 / (2 * node) and final.get(0, 0) == 1 - 1 / (2 * node)


def test_a_multistage_scheme_of_fourth_order():
    """Krogstad's scheme, whose classical order is 4: shows that the fourth-order conditions can be
    met.
    """
    h, one = Q(1, 2), Q(1)
    stages = (
        Stage(h, through=(0,)),
        Stage(h, weights={0: (Term(h, 1, h), Term(-one, 2, h)), 1: (Term(one, 2, h),)}),
        Stage(one, weights={0: (Term(one, 1, one), Term(Q(-2), 2, one)), 2: (Term(Q(2), 2, one),)}),
        Stage(
            one,
            weights={
                0: (Term(one, 1, one), Term(Q(-3), 2, one), Term(Q(4), 3, one)),
                1: (Term(Q(2), 2, one), Term(Q(-4), 3, one)),
                2: (Term(Q(2), 2, one), Term(Q(-4), 3, one)),
                3: (Term(-one, 2, one), Term(Q(4), 3, one)),
            },
        ),
    )
    assert Tableau("krogstad", stages).order() == 4
    # The two middle evaluations lie at one node: weight moved between them leaves the third order
    # and costs the fourth.
    last = stages[3].weights
    moved = {**last, 1: (*last[1], Term(Q(1, 10), 2, one)), 2: (*last[2], Term(Q(-1, 10), 2, one))}
    assert Tableau("wrong", (*stages[:3], replace(stages[3], weights=moved))).order() in (2, 3)


@pytest.mark.parametrize(
    "nodes", [[Q(0)], [Q(0), Q(1, 3)], [Q(0), Q(1, 4), Q(3, 5)], [Q(1), Q(0), Q(-1), Q(-5, 2)]]
)
def test_lagrange_basis_is_exact(nodes: list[Q]):
    basis = lagrange_coefficients(nodes)
    for j, row in enumerate(basis):
        values = [sum((c * node**m for m, c in enumerate(row)), Q(0)) for node in nodes]
        assert values == [Q(i == j) for i in range(len(nodes))]


@pytest.mark.parametrize("target", [Q(1, 3), Q(1)])
@pytest.mark.parametrize("nodes", [[Q(0), Q(1, 4), Q(3, 5)], [Q(0), Q(-1)]])
def test_interpolation_weights_integrate_polynomials_exactly(target: Q, nodes: list[Q]):
    """Σ_j b_j θ_j^m is the m-th moment m! c^{m+1} φ_{m+1}, as an identity between φ-functions, for
    all m below the node count.
    """
    rows = interpolation_weights(target, nodes)
    for m in range(len(nodes)):
        total: dict[int, Q] = {}
        for node, row in zip(nodes, rows, strict=True):
            for q, k in row:
                total[k] = total.get(k, Q(0)) + q * node**m
        factorial = [1, 1, 2][m]
        assert {k: q for k, q in total.items() if q} == {m + 1: factorial * target ** (m + 1)}


def test_interpolation_with_floats_and_tensors():
    exact = interpolation_weights(Q(1), [Q(0), Q(1, 4), Q(3, 5)])
    for kind in (float, lambda q: torch.tensor(float(q), dtype=torch.float64)):
        rows = interpolation_weights(kind(Q(1)), [kind(Q(0)), kind(Q(1, 4)), kind(Q(3, 5))])
        for row, reference in zip(rows, exact, strict=True):
            assert [float(q) for q, _ in row] == pytest.approx(
                [float(q) for q, _ in reference], rel=1e-12
            )


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (1 / 3, Q(1, 3)),
        (0.3, Q(3, 10)),
        ("2/7", Q(2, 7)),
        (1, Q(1)),
        (0.1 + 0.2, Q(0.1 + 0.2)),
        (Q(5, 9), Q(5, 9)),
    ],
)
def test_nodes_are_exact_fractions(value: object, exact: Q):
    assert rational(value) == exact  # type: ignore[arg-type]


def test_default_nodes_as_floats_give_the_default_tableau():
    assert seeds3(1 / 3, 2 / 3) == seeds3() and seeds2(0.5) == seeds2()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "a third", None])
def test_nodes_that_are_no_numbers(value: object):
    with pytest.raises(ValueError, match="A node must be a finite number, got"):
        rational(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: seeds2(0), r"0 < c <= 1, got 0"),
        (lambda: seeds2(1.5), r"0 < c <= 1, got 1\.5"),
        (lambda: seeds3(0.5, 0.25), r"0 < r1 < r2 <= 1, got r1=0\.5 and r2=0\.25"),
        (lambda: seeds3b(0, 0.5), r"0 < r1 < r2 <= 1"),
        (lambda: seeds3(Q(2, 3), Q(4, 5)), r"r1 = 2/3 has no third-order row: choose another r1"),
        (lambda: Stage(Q(0), through=(0,)), r"Stage\.c must lie in \(0, 1\], got 0"),
        (lambda: Stage(Q(1)), r"either `through` or `weights`"),
        (
            lambda: Stage(Q(1), through=(0,), weights={0: (Term(Q(1), 1, Q(1)),)}),
            r"either `through` or `weights`",
        ),
        (lambda: Stage(Q(1), through=(0, 0)), r"repeats an evaluation"),
        (lambda: Tableau("t", ()), r"the last stage must end the step"),
        (
            lambda: Tableau("t", (Stage(Q(1, 2), through=(0,)),)),
            r"the last stage must end the step",
        ),
        (
            lambda: Tableau("t", (Stage(Q(1), through=(1,)),)),
            r"stage 0 uses evaluations \[1\], but only 0\.\.0",
        ),
        (
            lambda: Stage(Q(1), weights={-1: (Term(Q(1), 1, Q(1)),)}),
            r"are for evaluations of the same step, got \[-1\]",
        ),
        (
            lambda: Tableau(
                "t",
                (
                    Stage(Q(1, 2), through=(0,)),
                    Stage(Q(1, 2), through=(1,)),
                    Stage(Q(1), through=(1, 2)),
                ),
            ),
            r"interpolation through coinciding nodes",
        ),
        (
            lambda: Tableau("t", (Stage(Q(1), weights={0: (Term(Q(1), 2, Q(1)),)}),)),
            r"not exact for constant F",
        ),
    ],
)
def test_tableaus_that_are_refused(build: object, message: str):
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


def test_unknown_solver_tells_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown solver 'seed-3'; nearest: \['seeds-3"):
        solvers.get("seed-3")
    with pytest.raises(TypeError, match="A solver is a name, a Method or a Tableau, got int: 3"):
        solvers.get(3)  # type: ignore[arg-type]


def test_a_tableau_passes_and_a_name_takes_parameters():
    assert solvers.get(seeds1()) == Method(seeds1())
    assert solvers.get("seeds-2", c=1).tableau == seeds2(1)
    assert solvers.get(solvers.get("heun")) is solvers.get("heun")
