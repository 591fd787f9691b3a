"""`expint convergence`: measure the orders of solvers, and certify them."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from diffusion_adapters.cli import options, output
from diffusion_adapters.cli.options import option
from diffusion_adapters.cli.own_objects import schedule_of, solver_of
from expint import schedules, solvers, targets
from expint.convergence import Comparison, Orders, Problem, compare, declared_orders
from expint.convergence import certify as certified
from expint.convergence.orders import PATHS
from expint.results import new_figure
from expint.schedules import Schedule

KINDS = ("deterministic", "weak", "strong")
PICTURES = (".png", ".svg", ".pdf")
_SOLVERS = f"With commas: {', '.join(solvers.names())}, or module:object for a tableau of your own."
_USUAL = "seeds-1,seeds-2,seeds-3,seeds-sra,seeds-sra3"
_SCHEDULES = f"{options.one_of(schedules.names())} Or module:object for a schedule of your own."
_USUAL_TARGET = "mixture; gaussian for weak orders, which are then exact instead of sampled"
_CERTIFY = "Check orders and stage covariances; exit with status 1 if one is off."
_DECLARE = "Deterministic, weak and strong order to certify."


@click.command()
@option("--solver LIST", _SOLVERS, default=_USUAL)
@option("--schedule NAME", _SCHEDULES, default="vp")
@option("--form NAME", options.FORMS, default="data")
@option("--ell X", "Stochasticity of the weak and strong studies.", default=1.0)
@option("--sigmas A,B", "First and last noise level.", default="5,0.1")
@options.SIGMA_DATA
@option(f"--kind [{'|'.join(KINDS)}|all]", "Which order.", usual="strong; all with --certify")
@option("--target [gaussian|mixture]", "Data.", usual=_USUAL_TARGET)
@option("--paths N", "Brownian paths of a strong study.", default=PATHS, least=64)
@option("--steps LIST", "Step counts, with commas, each a multiple of the one before.")
@options.SEED
@option("--certify", _CERTIFY)
@option("--declare D,W,S", _DECLARE, usual="those of the tableau")
@option("--out FILE", "Picture (.png, .svg, .pdf), or folder; JSON goes beside it.")
@options.NO_PROGRESS
@click.pass_context
def convergence(ctx: click.Context, **asked: Any) -> None:
    """Measure the order of convergence of solvers on data whose denoiser is known.

    strong: distance along each Brownian path from a fine run on the same path; weak: distance of
    mean and variance on Gaussian data from the exact ones; deterministic: distance from the
    solution of the ODE (ell=0).
    """
    given = SimpleNamespace(**asked)
    listed = options.listed("--solver", given.solver)
    methods = {name: solvers.get(solver_of(name)) for name in listed}
    # Variants of one solver are told apart by name.
    chosen = [replace(method, name=name) for name, method in methods.items()]
    schedule = schedule_of(given.schedule)
    kind = given.kind or ("all" if given.certify else "strong")
    kinds = (kind,) if kind != "all" else KINDS if given.ell > 0 else KINDS[:2]
    counts = options.listed("--steps", given.steps, int) if given.steps else None
    first, last = options.listed("--sigmas", given.sigmas, float, count=2)
    orders = options.listed("--declare", given.declare, float, count=3) if given.declare else None
    rest = (given.form, given.ell, (first, last), given.sigma_data)
    problems = {name: Problem(_data(given.target, name, schedule), *rest) for name in kinds}
    folder, names = _files(given.out)
    if names:
        new_figure(1.0, 1.0)  # refuses to begin without matplotlib
    sizes = {"paths": given.paths, "seed": given.seed}
    measure = partial(compare, chosen, steps=counts, progress=given.progress, **sizes)
    studies = [s for name, problem in problems.items() for s in measure(problem, [name]).studies]
    found = Comparison(tuple(studies))
    click.echo(found.table())
    certificates = []
    for method in chosen if given.certify else ():
        # A weak order is certified on Gaussian data only.
        own = (s for s in studies if s.solver == method.name)
        own = {s.kind: s for s in own if (s.kind, given.target) != ("weak", "mixture")}
        declared = Orders(*orders) if orders else declared_orders(methods[method.name])
        certificate = certified(
            method, problems[kinds[0]], declared=declared, kinds=kinds, studies=own, **sizes
        )
        click.echo(f"\n{certificate.table()}")
        certificates.append(certificate)
    if names:
        content = {"command": "expint convergence", "settings": options.asked("out")}
        content |= found.to_dict() | output.origin()
        if given.certify:
            content["certificates"] = [certificate.to_dict() for certificate in certificates]
        picture = output.content_of(found.plot, Path(names[0]).suffix.lstrip(".").lower())
        files = zip(names, (picture, output.json_bytes(content)), strict=True)
        click.echo(f"\n{output.write_files(folder, dict(files))}")
    if not all(certificate.passed for certificate in certificates):
        ctx.exit(1)


def _data(target: str | None, kind: str, schedule: Schedule) -> Any:
    if (target or ("gaussian" if kind == "weak" else "mixture")) == "gaussian":
        return targets.Gaussian([0.7, -1.0], [0.3, 2.0], schedule)
    return targets.GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]], 0.6, None, schedule)


def _files(out: Path | None) -> tuple[Path, tuple[str, ...]]:
    """Folder and the names of picture and JSON, after checking that they can be written."""
    if out is None:
        return Path(), ()
    picture = out if out.suffix else out / "convergence.png"
    if picture.suffix.lower() not in PICTURES:
        kinds = ", ".join(PICTURES)
        raise ValueError(f"--out is a picture ({kinds}) or a folder, got {str(out)!r}.")
    names = (picture.name, picture.with_suffix(".json").name)
    output.check_folder(picture.parent, names)
    return picture.parent, names
