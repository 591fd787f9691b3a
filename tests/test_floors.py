"""The floors of the house: a module imports only from its own floor and those below.

With them, the other rules that the source itself can answer for: names, lengths, and where
randomness may enter.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("expint", "diffusion_adapters")

# Every folder of a package and every file beside them, from the lowest floor up: a module imports
# only from its own and from lower ones. There is no default: what is not entered here is refused.
FLOORS = (
    "expint.registry",
    "expint.files",
    "expint.numerics",
    "expint.schedules",
    "expint.grids",
    "expint.blocks",
    "expint.equations",
    "expint.noise",
    "expint.solvers",
    "expint.defaults",
    "expint.plans",
    "expint.guards",
    "expint.runs",
    "expint.targets",
    "expint.gaussian_data",
    "expint.default_plan",
    "expint.soundness",
    "expint.execution",
    "expint.metrics",
    "expint.results",
    "expint.adaptive",
    "expint.model_plans",
    "expint.frames",
    "expint.sampling",
    "expint.fixed_points",
    "expint.encoding",
    "expint.step_ends",
    "expint.transitions",
    "expint.likelihoods",
    "expint.particle_filter",
    "expint.integration",
    "expint.fields",
    "expint.phase_space_targets",
    "expint.phase_space",
    "expint.phase_space_samples",
    "expint.chains",
    "expint.nystrom",
    "expint.dynamics",
    "expint.convergence",
    "expint.recorder",
    "expint.saved_runs",
    "expint.second_moments",
    "expint.spectra",
    "expint.tuning",
    "expint.quality",
    "expint",
    "diffusion_adapters.families",
    "diffusion_adapters.guidance",
    "diffusion_adapters.checkpoints",
    "diffusion_adapters.array_files",
    "diffusion_adapters.background",
    "diffusion_adapters.image_features",
    "diffusion_adapters.pictures",
    "diffusion_adapters.sealed_json",
    "diffusion_adapters.shipped",
    "diffusion_adapters.k_diffusion",
    "diffusion_adapters.diffusers",
    "diffusion_adapters.runs",
    "diffusion_adapters",
    "diffusion_adapters.cli",
)
# Gathers the public names of every floor, and so is above all of them.
TOP = "expint"

MAX_LINES = 350
VAGUE_NAMES = {"utils", "helpers", "misc", "common"}
RANDOMNESS = re.compile(
    r"torch\.rand|rand_like|randn_like|normal_\(|torch\.(normal|bernoulli)\(|\bnp\.random|numpy\.random"
)


@dataclass(frozen=True)
class Module:
    """One source file under its dotted name."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def floor(name: str) -> int:
    """Its place in FLOORS: that of its folder or flat file."""
    own = ".".join(name.split(".")[:2])
    if own not in FLOORS:
        raise LookupError(f"{own} has no floor: enter it in FLOORS.")
    return FLOORS.index(own)


def source_files(root: Path) -> list[Path]:
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))


def modules_under(root: Path) -> dict[str, Module]:
    found = {}
    for path in source_files(root):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


def base_of(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of the module that `from … import` names."""
    if node.level == 0:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def imports(module: Module, known: dict[str, Module]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported, also within functions and by
    `import_module("…")`.
    """
    for node in ast.walk(module.tree):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = base_of(module, node)
                for alias in node.names:
                    submodule = f"{base}.{alias.name}"
                    yield node.lineno, submodule if submodule in known else base
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__")
                | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ) if not target.startswith("."):
                yield node.lineno, target


def upward_imports(root: Path) -> list[str]:
    known = modules_under(root)
    found = []
    for module in known.values():
        if module.name == TOP:
            continue
        own = floor(module.name)
        for line, target in dict.fromkeys(imports(module, known)):
            if target.split(".")[0] in PACKAGES and floor(target) > own:
                where = module.path.relative_to(root).as_posix()
                found.append(
                    f"{where}:{line}: {module.name} (floor {own}) imports {target} (floor "
                    f"{floor(target)})"
                )
    return found


def imports_of_adapters(root: Path) -> list[str]:
    known = modules_under(root)
    return [
        f"{module.path.relative_to(root).as_posix()}:{line}: expint imports {target}"
        for module in known.values()
        if module.name.split(".")[0] == "expint"
        for line, target in imports(module, known)
        if target.split(".")[0] == "diffusion_adapters"
    ]


def bound_names(module: Module, known: dict[str, Module]) -> Iterator[tuple[int, str]]:
    """(line, name) of what a package's `__init__` binds, other than its own submodules."""
    for node in module.tree.body:
        match node:
            case ast.ImportFrom():
                for alias in node.names:
                    if f"{base_of(module, node)}.{alias.name}" not in known:
                        yield node.lineno, alias.asname or alias.name
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.Assign():
                yield from (
                    (node.lineno, target.id)
                    for target in node.targets
                    if isinstance(target, ast.Name)
                )
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield node.lineno, name


def shadowed_modules(root: Path) -> list[str]:
    known = modules_under(root)
    return [
        f"{module.path.relative_to(root).as_posix()}:{line}: `{name}` has the name of the module "
        f"{module.name}.{name}"
        for module in known.values()
        if module.is_package
        for line, name in bound_names(module, known)
        if f"{module.name}.{name}" in known
    ]


def house(root: Path, **sources: str) -> Path:
    """A small source tree: `expint__sde="…"` is expint/sde.py, and a name that ends in `__` is a
    package.
    """
    for name, source in sources.items():
        path = root / Path(*name.rstrip("_").split("__"))
        path = path / "__init__.py" if name.endswith("__") else path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return root


def test_source_is_found():
    known = modules_under(ROOT)
    assert set(PACKAGES) <= set(known)
    assert len(known) > len(PACKAGES)


def test_imports_point_down():
    assert not (found := upward_imports(ROOT)), "\n".join(found)


def test_expint_does_not_import_adapters():
    assert not (found := imports_of_adapters(ROOT)), "\n".join(found)


def test_no_module_bears_the_name_of_an_export():
    assert not (found := shadowed_modules(ROOT)), "\n".join(found)


def test_files_are_short():
    found = [
        f"{path.relative_to(ROOT)}: {lines} lines, allowed {MAX_LINES}"
        for path in source_files(ROOT)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    ]
    assert not found, "\n".join(found)


def test_names_say_what_is_inside():
    paths = [path.relative_to(ROOT) for path in source_files(ROOT)]
    found = [
        str(path)
        for path in paths
        if VAGUE_NAMES & {part.strip("_") for part in path.with_suffix("").parts}
    ]
    assert not found, "\n".join(found)


def test_randomness_is_in_noise_only():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in source_files(ROOT)
        if not path.is_relative_to(ROOT / "expint" / "noise")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if RANDOMNESS.search(line)
    ]
    assert not found, "\n".join(found)


def feeders(root: Path) -> list[str]:
    """Sources in which a run is given evaluations."""
    return [
        path.relative_to(root).as_posix()
        for path in source_files(root)
        if ".feed(" in path.read_text(encoding="utf-8")
    ]


def test_runs_are_fed_in_one_loop_and_step_by_step_for_diffusers():
    assert set(feeders(ROOT)) == {"expint/runs/run.py", "diffusion_adapters/diffusers/scheduler.py"}


def test_another_loop_is_seen(tmp_path: Path):
    root = house(tmp_path, expint__loop="while not run.done:\n    run.feed(model(run.x, run.time))")
    assert feeders(root) == ["expint/loop.py"]


def test_every_folder_and_flat_file_has_a_floor_of_its_own():
    found = {".".join(name.split(".")[:2]) for name in modules_under(ROOT)}
    assert found == set(FLOORS) and len(set(FLOORS)) == len(FLOORS)


def test_what_has_no_floor_is_refused(tmp_path: Path):
    with pytest.raises(LookupError, match=r"expint\.extra has no floor"):
        upward_imports(house(tmp_path, expint__="", expint__extra="import torch"))


@pytest.mark.parametrize(
    "line",
    [
        "from expint.noise import Gaussian",
        "from .noise import Gaussian",
        "from . import noise",
        "import expint.noise.path",
        "from expint import sample",
        "def late():\n    from .noise.path import BrownianPath",
        "import importlib\nimportlib.import_module('expint.noise')",
    ],
)
def test_an_upward_import_is_seen(tmp_path: Path, line: str):
    root = house(
        tmp_path,
        expint__="from .grids import x",
        expint__grids=line,
        expint__noise__="",
        expint__noise__path="",
    )
    (message,) = upward_imports(root)
    own, above = (
        floor(f"expint{name}") for name in (".grids", ".noise" if "noise" in line else "")
    )
    assert message.startswith(
        f"expint/grids.py:{line.count(chr(10)) + 1}: expint.grids (floor {own}) imports expint"
    )
    assert message.endswith(f"(floor {above})")


def test_imports_down_and_across_pass(tmp_path: Path):
    lines = (
        "import torch",
        "from . import tree",
        "from .tree import grow",
        "from ..equations import F",
        "from .. import grids",
        "import expint.numerics",
    )
    root = house(
        tmp_path,
        expint__="from .noise.path import BrownianPath",
        expint__grids="",
        expint__equations="",
        expint__numerics="",
        expint__noise__="from .path import BrownianPath",
        expint__noise__path="\n".join(lines),
        expint__noise__tree="",
        diffusion_adapters__cli="import expint",
    )
    assert upward_imports(root) == []


def test_an_import_of_the_adapters_is_seen(tmp_path: Path):
    root = house(tmp_path, expint__="from diffusion_adapters import load", diffusion_adapters__="")
    assert imports_of_adapters(root) == ["expint/__init__.py:1: expint imports diffusion_adapters"]


@pytest.mark.parametrize(
    "line", ["from .phi import phi", "from expint.sums import phi", "def phi(): ...", "phi = 1"]
)
def test_a_module_named_like_an_export_is_seen(tmp_path: Path, line: str):
    (message,) = shadowed_modules(house(tmp_path, expint__=line, expint__phi="", expint__sums=""))
    assert message.startswith("expint/__init__.py:1: `phi` ")


@pytest.mark.parametrize(
    "line",
    ["from . import phi", "from expint import phi", "from .phi import value", "__all__ = ['phi']"],
)
def test_an_exported_module_is_no_clash(tmp_path: Path, line: str):
    assert shadowed_modules(house(tmp_path, expint__=line, expint__phi="")) == []
