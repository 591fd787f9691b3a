"""Convergence studies: what a solver really does, measured without Monte Carlo where that is
possible.

Every study returns a small object with `.table()`, `.plot(path)` and `.to_json()`. The order is
fitted over the range of step counts that the study itself finds to be asymptotic.
"""

from expint.convergence.certification import (
    Certificate,
    Orders,
    certify,
    certify_registration,
    declared_orders,
    register_solver,
)
from expint.convergence.common_path import PathMaker
from expint.convergence.linear_response import gaussian_moments
from expint.convergence.order_fitting import fitted_order
from expint.convergence.orders import (
    compare,
    deterministic_order,
    deterministic_orders,
    strong_order,
    strong_orders,
    weak_order,
)  # fmt: skip
from expint.convergence.problem import Problem, SemiLinearProblem
from expint.convergence.stage_covariance import NoiseStudy, noise_covariance
from expint.convergence.studies import Comparison, OrderStudy

__all__ = [
    "Certificate", "Comparison", "NoiseStudy", "OrderStudy", "Orders", "PathMaker", "Problem",
    "SemiLinearProblem", "certify", "certify_registration", "compare", "declared_orders",
    "deterministic_order", "deterministic_orders", "fitted_order", "gaussian_moments",
    "noise_covariance", "register_solver", "strong_order", "strong_orders", "weak_order",
]  # fmt: skip
