"""The default plan beside another one."""

from expint import defaults, solvers
from expint.plans import Plan, compile_plan


def default_for(plan: Plan) -> Plan:
    """The default plan between the same times with as many evaluations.

    Raises:
        ValueError: for times outside the sampling range.
    """
    diffusion, method = plan.sde.diffusion, solvers.get(defaults.solver(plan.nfe))
    assert diffusion
    schedule, (first, last) = diffusion.schedule, plan.grid[[0, -1]].tolist()
    ends = {"stop": last, "final": "none"} if schedule.sigma(last) > 0.0 else {}
    times = defaults.grid(schedule, max(plan.nfe, 2), method, start=first, **ends)
    return compile_plan(method.equation(schedule), method, times)
