"""What holds for the whole source: one loop, one update, one place that asks a model, no override,
no clock; and the size of every room."""

import ast
import importlib
import inspect
import io
import pkgutil
import re
import tokenize
from functools import cache
from pathlib import Path
from textwrap import dedent
from types import FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("expint", "diffusion_adapters")
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def files_with(pattern: str, below: str = "") -> set[str]:
    return {
        name
        for name, text in SOURCES.items()
        if name.startswith(below) and re.search(pattern, text, re.MULTILINE)
    }


def test_one_loop():
    assert files_with(r"\.feed\(") == {
        "expint/runs/run.py",
        "diffusion_adapters/diffusers/scheduler.py",
    }


def test_one_update_of_a_state():
    """`add_` and the like on a state x; elsewhere it happens to tensors that are made there."""
    in_place = r"\b(state|self\.x|x)\.(add|addcmul|mul|sub|copy|lerp)_\("
    assert files_with(in_place) == {"expint/runs/run.py"}


def test_one_place_asks_a_model_for_its_attributes():
    assert files_with(r"getattr\((self\.)?_?model\b") == {"expint/runs/model.py"}


def test_no_thread_no_ctypes_no_clock():
    forbidden = r"^\s*(import|from) (threading|ctypes|time|signal|multiprocessing|asyncio)\b"
    assert not files_with(forbidden, "expint/")


def classes() -> list[type]:
    found = []
    for package in PACKAGES:
        top = importlib.import_module(package)
        for module in pkgutil.walk_packages(top.__path__, f"{package}."):
            if module.name.endswith("__main__"):
                continue
            members = vars(importlib.import_module(module.name)).values()
            found += [c for c in members if isinstance(c, type) and c.__module__ == module.name]
    return found


def overrides(cls: type) -> list[str]:
    """Methods of a class that a class of this project above it defines, not as abstract ones."""
    found = []
    for name, own in vars(cls).items():
        if name.startswith("__") or not isinstance(own, FunctionType | property | staticmethod):
            continue
        for base in cls.__mro__[1:]:
            above = vars(base).get(name)
            ours = base.__module__.split(".")[0] in PACKAGES
            concrete = not getattr(above, "__isabstractmethod__", False)
            if above is not None and ours and concrete and not getattr(base, "_is_protocol", False):
                found.append(f"{cls.__qualname__}.{name} overrides {base.__qualname__}.{name}")
    return found


def test_no_class_overrides_a_concrete_method():
    assert not [line for cls in classes() for line in overrides(cls)]


def test_an_override_is_seen():
    class Base:
        def area(self) -> float:
            return 1.0

    Base.__module__ = "expint.somewhere"

    class Derived(Base):
        def area(self) -> float:
            return 2.0

    (line,) = overrides(Derived)
    assert line.endswith("Derived.area overrides test_an_override_is_seen.<locals>.Base.area")


BUILDER, SCHEDULE, ADAPTER = 12, 20, 40

# Code lines: not blank, no comment, no docstring. Ceilings may only fall. A new capability is a
# room of its own with a ceiling of its own, and counts in no other.
ENGINE = 4_234
ROOMS = {
    "expint/defaults.py": 49,
    "expint/blocks/": 277,
    "expint/phase_space/": 214,
    "expint/phase_space_targets.py": 55,
    "expint/schedules/formula/critical_damping.py": 83,
    "expint/schedules/formula/critically_damped.py": 20,
    "expint/schedules/formula/psld.py": 24,
    "expint/phase_space_samples.py": 113,
    "expint/equations/cps_levels.py": 13,
    "expint/equations/from_blocks.py": 59,
    "expint/equations/time_clock.py": 16,
    "expint/equations/time_dependence.py": 82,
    "expint/plans/block_coefficients.py": 103,
    "expint/noise/paths/composed.py": 61,
    "expint/noise/paths/functionals.py": 20,
    "expint/equations/growing_primitive.py": 100,
    "expint/guards/": 312,
    "expint/execution.py": 41,
    "expint/soundness.py": 39,
    "expint/solvers/aliases.py": 31,
    "expint/solvers/steady_churn.py": 14,
    "expint/spectra/": 244,
    "expint/dynamics/": 150,
    "expint/chains.py": 45,
    "expint/nystrom.py": 59,
    "expint/fields/": 174,
    "expint/gaussian_data.py": 21,
    "expint/default_plan.py": 9,
    "expint/numerics/devices.py": 16,
    "expint/equations/given_ell.py": 81,
    "expint/equations/step_scales.py": 32,
    "expint/plans/extrapolation.py": 33,
    "expint/plans/fresh_steps.py": 86,
    "expint/noise/counter.py": 69,
    "expint/noise/paths/brownian_tree.py": 220,
    "expint/noise/paths/tree_normals.py": 35,
    "expint/noise/paths/remembering.py": 126,
    "expint/grids/published.py": 56,
    "expint/model_plans.py": 32,
    "expint/plans/plan_files.py": 223,
    "expint/plans/restart.py": 62,
    "expint/plans/step_scale.py": 21,
    "expint/plans/file_format.py": 83,
    "expint/tuning/": 1_118,
    "expint/tuning/pairs.py": 69,
    "expint/tuning/network_grids.py": 30,
    "expint/runs/row_noise.py": 54,
    "expint/transitions/": 368,
    "expint/fixed_points.py": 30,
    "expint/step_ends.py": 71,
    "expint/frames.py": 65,
    "expint/encoding.py": 113,
    "expint/likelihoods/": 224,
    "expint/particle_filter.py": 132,
    "expint/convergence/plans_path.py": 98,
    "expint/convergence/strong_certificates.py": 33,
    "diffusion_adapters/cli/continuing.py": 16,
    "diffusion_adapters/cli/drawing.py": 52,
    "diffusion_adapters/cli/evaluate.py": 57,
    "diffusion_adapters/cli/extractors.py": 35,
    "diffusion_adapters/cli/given_data.py": 49,
    "diffusion_adapters/cli/given_plans.py": 34,
    "diffusion_adapters/cli/likelihood.py": 47,
    "diffusion_adapters/cli/labels.py": 31,
    "diffusion_adapters/cli/per_step.py": 26,
    "diffusion_adapters/cli/placing.py": 27,
    "diffusion_adapters/cli/shards.py": 52,
    "diffusion_adapters/cli/tune.py": 50,
    "diffusion_adapters/array_files.py": 18,
    "diffusion_adapters/background.py": 16,
    "diffusion_adapters/image_features.py": 40,
    "diffusion_adapters/pictures.py": 13,
    "diffusion_adapters/sealed_json.py": 14,
    "diffusion_adapters/diffusers/continuous.py": 25,
    "diffusion_adapters/diffusers/copies.py": 17,
    "diffusion_adapters/diffusers/densities.py": 87,
    "diffusion_adapters/diffusers/given_plans.py": 50,
    "diffusion_adapters/diffusers/idle_evaluations.py": 12,
    "diffusion_adapters/diffusers/latent_noise.py": 35,
    "diffusion_adapters/diffusers/methods.py": 15,
    "diffusion_adapters/diffusers/noised_states.py": 35,
    "diffusion_adapters/diffusers/spacings.py": 22,
    "diffusion_adapters/diffusers/step_starts.py": 65,
    "diffusion_adapters/diffusers/tables.py": 66,
    "diffusion_adapters/families/checks.py": 98,
    "diffusion_adapters/families/left_out.py": 22,
    "diffusion_adapters/families/phase_space.py": 43,
    "diffusion_adapters/families/module_methods.py": 50,
    "diffusion_adapters/k_diffusion/given_plans.py": 30,
    "diffusion_adapters/k_diffusion/inversion.py": 35,
    "diffusion_adapters/k_diffusion/unsampling.py": 53,
    "diffusion_adapters/runs/": 619,
    "diffusion_adapters/shipped/phase_space_network.py": 36,
    "diffusion_adapters/shipped/tuned_plans.py": 27,
}
CEILINGS = {
    "expint": 8_487,
    "expint/adaptive": 404,
    "expint/convergence": 1_184,
    "expint/equations": 802,
    "expint/grids": 307,
    "expint/noise": 724,
    "expint/numerics": 316,
    "expint/plans": 678,
    "expint/quality": 444,
    "expint/runs": 460,
    "expint/schedules": 1_066,
    "expint/solvers": 1_062,
    "diffusion_adapters": 3_351,
    "diffusion_adapters/checkpoints": 671,
    "diffusion_adapters/cli": 738,
    "diffusion_adapters/diffusers": 517,
    "diffusion_adapters/families": 262,
    "diffusion_adapters/guidance": 437,
    "diffusion_adapters/k_diffusion": 324,
    "diffusion_adapters/shipped": 373,
}


def code_lines(text: str) -> int:
    words = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                words |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    blank = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in blank:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - words)


@cache
def lines_of(name: str) -> int:
    """Of a source, which is read no earlier than it is asked for: not while tests are collected."""
    return code_lines(SOURCES[name])


def size(*folders: str, without: tuple[str, ...] = ()) -> int:
    return sum(
        lines_of(name)
        for name in SOURCES
        if name.startswith(folders) and not name.startswith(without)
    )


def engine() -> int:
    """What is read in an afternoon: from φ to `sample`, without formulas as schedules, SDEs from
    coefficients, exports, paths and adaptive steps."""
    return size(
        "expint/numerics/",
        "expint/schedules/",
        "expint/grids/",
        "expint/equations/",
        "expint/noise/",
        "expint/solvers/",
        "expint/plans/",
        "expint/runs/",
        "expint/sampling.py",
        without=(
            "expint/schedules/formula/",
            "expint/equations/coefficients.py",
            "expint/equations/torchsde_export.py",
            "expint/noise/paths/",
            "expint/noise/from_generators.py",
            "expint/noise/replay.py",
            *ROOMS,
        ),
    )


def test_the_engine_is_read_in_an_afternoon():
    assert engine() <= ENGINE


@pytest.mark.parametrize("folder", CEILINGS)
def test_ceilings(folder: str):
    assert size(folder + "/", without=tuple(ROOMS)) <= CEILINGS[folder]


@pytest.mark.parametrize("room", ROOMS)
def test_ceilings_of_new_rooms(room: str):
    inner = tuple(other for other in ROOMS if other != room and other.startswith(room))
    assert size(room, without=inner) <= ROOMS[room]


def test_the_core_of_blocks_is_small():
    """Linear parts that are matrices: what `SemiLinearSDE.from_blocks` adds to the engine."""
    core = ("expint/blocks/", "expint/plans/block_coefficients.py")
    assert size(*core, "expint/noise/paths/composed.py", "expint/equations/from_blocks.py") <= 500


def test_code_lines_are_counted():
    text = [
        '"""A docstring', 'of two lines."""', "", "# a comment", "x = (", "    1,", ")", "",
        "def f():", '    """Doc."""', '    return """two', 'lines"""',
    ]  # fmt: skip
    assert code_lines("\n".join(text) + "\n") == 6


def test_few_fields():
    from expint import SemiLinearSDE
    from expint.plans import Row
    from expint.solvers import Tableau

    for cls, most in ((Row, 10), (Tableau, 5), (SemiLinearSDE, 9)):
        fields = cls._fields if hasattr(cls, "_fields") else cls.__dataclass_fields__
        assert len(fields) <= most, cls


def test_what_is_written_often_is_short():
    """A function that makes a tableau, a closed-form schedule, an adapter."""
    from diffusion_adapters import families
    from expint import schedules, solvers

    def length(thing: Any) -> int:
        lines = dedent(inspect.getsource(thing)).splitlines(keepends=True)
        return code_lines("".join(line for line in lines if not line.startswith("@")))

    for entry in solvers.entries():
        assert length(entry.build) <= BUILDER, entry.name
    for name in set(schedules.names()) - {"discrete"}:
        assert length(type(schedules.get(name))) <= SCHEDULE, name
    for name in families.__all__:
        kind = getattr(families, name)
        if isinstance(kind, type) and name != "NetworkAdapter":
            assert length(kind) <= ADAPTER, name
