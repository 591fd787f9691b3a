"""Solvers as data: tableaus and methods, their order conditions, and the published names."""

from expint.solvers.method import Method
from expint.solvers.multistep import (
    deis,
    dpmpp_2m,
    dpmpp_2m_sde,
    dpmpp_3m_sde,
    er_sde,
    ipndm,
    lms,
    pndm,
    seeds_ab,
)
from expint.solvers.operations import (
    Operation,
    ancestral,
    churn,
    langevin,
    large_variance,
    noise_factor,
    operation,
)
from expint.solvers.order_conditions import deterministic_order
from expint.solvers.predictor_corrector import pece, sa_solver, unipc
from expint.solvers.published import ddpm, edm_stochastic
from expint.solvers.registry import Entry, entries, entry, get, names, register
from expint.solvers.reverse_variance import analytic_dpm, optimal_variance
from expint.solvers.runge_kutta import deis_rk3, dpm_solver, etd_rk4, euler_maruyama, heun
from expint.solvers.seeds import seeds1, seeds2, seeds3, seeds3b
from expint.solvers.space_time import seeds_sra, seeds_sra3
from expint.solvers.tableau import Stage, Tableau, Term
from expint.solvers.taylor import taylor2

__all__ = [
    "Entry", "Method", "Operation", "Stage", "Tableau", "Term", "analytic_dpm", "ancestral",
    "churn",
    "ddpm", "deis", "deis_rk3", "deterministic_order", "dpm_solver", "dpmpp_2m", "dpmpp_2m_sde",
    "dpmpp_3m_sde", "edm_stochastic", "entries", "entry", "er_sde", "etd_rk4", "euler_maruyama",
    "get", "heun", "ipndm", "langevin", "large_variance", "lms", "names", "noise_factor",
    "operation", "optimal_variance", "pece", "pndm", "register", "sa_solver", "seeds1", "seeds2",
    "seeds3", "seeds3b", "seeds_ab", "seeds_sra", "seeds_sra3", "taylor2", "unipc",
]  # fmt: skip
