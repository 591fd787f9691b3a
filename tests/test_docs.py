"""The documents do what they say: their code runs, prints what stands below it, and nothing that
they link to is missing.
"""

import ast
import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from diffusion_adapters.cli import main
from expint import defaults, solvers

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"")
TIMING = re.compile(r"[\d.]+ s, [\d.]+ ms per sample")

# Smaller numbers where the page's own take too long for a test: (as written, as run).
SMALLER = {
    "README.md": [
        ("(16, 1, 28, 28)", "(2, 1, 28, 28)"),
        ("nfe=60", "nfe=7"),
        ("range(16)", "range(2)"),
    ],
    "docs/reinforcement-learning.md": [("in range(8)", "in range(1)")],
}


@dataclass(frozen=True)
class Block:
    """A fenced block, and the text block that stands directly below it, if there is one: what it
    prints.
    """

    language: str
    code: str
    line: int
    output: str | None


def blocks(page: str) -> list[Block]:
    text = PAGES[page]
    found = list(FENCE.finditer(text))
    result = []
    for i, match in enumerate(found):
        below = found[i + 1] if i + 1 < len(found) else None
        prints = (
            below is not None
            and below[1] == "text"
            and not text[match.end() : below.start()].strip()
        )
        result.append(
            Block(
                match[1],
                match[2],
                text.count("\n", 0, match.start()) + 1,
                below[2] if prints and below else None,
            )
        )
    return result


def pages_with(*languages: str) -> list[str]:
    return sorted(
        page for page in PAGES if any(block.language in languages for block in blocks(page))
    )


def commands(block: Block) -> list[str]:
    lines = block.code.replace("\\\n", " ").splitlines()
    return [
        line
        for line in (line.removeprefix("$ ").strip() for line in lines)
        if line.startswith("expint ")
    ]


@pytest.mark.parametrize("page", pages_with("python"))
def test_python_runs_and_prints_what_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    smaller = list(SMALLER.get(page, []))
    for block in blocks(page):
        if block.language != "python":
            continue
        code = block.code
        for written, run in list(smaller):
            if written in code:
                code = code.replace(written, run)
                smaller.remove((written, run))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            exec(compile("\n" * block.line + code, page, "exec"), namespace)
        if block.output is not None:
            assert printed.getvalue() == block.output, (
                f"{page}, line {block.line}: prints\n{printed.getvalue()}"
            )
    assert not smaller, f"{page} no longer contains {smaller}"


@pytest.mark.parametrize("page", pages_with("bash", "console"))
def test_commands_run_and_print_what_the_page_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        if block.language not in ("bash", "console") or not commands(block):
            continue
        printed = ""
        for command in commands(block):
            result = CliRunner().invoke(main, shlex.split(command, comments=True)[1:])
            assert result.exit_code == 0, f"{page}, line {block.line}: {command}\n{result.output}"
            printed += result.stdout
        if block.output is not None:
            printed, expected = TIMING.sub("…", printed), TIMING.sub("…", block.output)
            assert printed == expected, f"{page}, line {block.line}: prints\n{printed}"


@pytest.mark.parametrize("page", ["docs/index.md", *sorted(p for p in PAGES if "docs/for/" in p)])
def test_each_way_in_takes_at_most_fifteen_lines(page: str):
    """Sample, define, prove on the home page, and the first script for each kind of user."""
    code = [block.code for block in blocks(page) if block.language == "python"]
    assert len(code) == (3 if page == "docs/index.md" else 1)
    assert all(len([line for line in text.splitlines() if line]) <= 15 for text in code)


def test_something_is_run():
    assert {"README.md", "docs/quickstart.md", "docs/theory.md"} <= set(pages_with("python"))
    assert any(
        commands(block)
        for page in PAGES
        for block in blocks(page)
        if block.language in ("bash", "console")
    )


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_and_pictures_exist(page: str):
    folder = (ROOT / page).parent
    targets = [a or b for a, b in LINK.findall(FENCE.sub("", PAGES[page]))]
    local = [
        target.split("#")[0] for target in targets if not re.match(r"https?://|mailto:|#", target)
    ]
    missing = [target for target in local if not (folder / target).exists()]
    assert not missing, f"{page} refers to {missing}"


def test_navigation_and_pages_agree():
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"^ +- [^:\n]+: (\S+\.md)$", configuration, re.MULTILINE))
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}


# What is public: all that `__all__` of these names. A module that is named there is public itself.
PUBLIC = (
    "expint",
    "expint.phase_space",
    "diffusion_adapters",
    "diffusion_adapters.diffusers",
    "diffusion_adapters.families",
    "diffusion_adapters.k_diffusion",
    "diffusion_adapters.shipped",
)


def names_of(module: ModuleType) -> list[str]:
    """Its `__all__`; for a module that is no package, and has none, what it defines."""
    if hasattr(module, "__all__"):
        return module.__all__
    assert not hasattr(module, "__path__"), f"the package {module.__name__} has no __all__"
    found: list[str] = []
    for node in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in found if not name.startswith("_")]


def paths(path: str, module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Every path below a public module, with the object that it leads to."""
    for name in names_of(module):
        value = getattr(module, name)
        if isinstance(value, ModuleType):
            yield from paths(f"{path}.{name}", value)
        else:
            yield f"{path}.{name}", value


def public_paths() -> set[str]:
    """The shortest path to every public object; its name tells apart numbers that are equal."""
    shortest: dict[tuple[int, str], str] = {}
    for package in PUBLIC:
        for path, value in paths(package, importlib.import_module(package)):
            key = (id(value), path.rsplit(".", 1)[1])
            known = shortest.setdefault(key, path)
            shortest[key] = min(known, path, key=lambda path: (path.count("."), path))
    return set(shortest.values())


def test_reference_is_what_is_public():
    entries = re.findall(r"^::: (\S+)$", PAGES["docs/api.md"], re.MULTILINE)
    assert len(set(entries)) == len(entries)
    public = public_paths()
    assert set(entries) == public, (
        f"docs/api.md lacks {sorted(public - set(entries))}, and should not have "
        f"{sorted(set(entries) - public)}"
    )


COUNTING = ["README.md", "docs/solvers.md", "docs/how-to-choose.md", "docs/for/diffusers.md"]


@pytest.mark.parametrize("page", COUNTING)
def test_the_number_of_solvers_is_that_of_the_registry(page: str):
    """In figures, where a page says it."""
    said = re.findall(r"(?:\[|You get )(\w+) (?:solvers|names)\b", PAGES[page])
    assert said == [str(len(solvers.names()))]


def test_how_to_choose_has_the_bands_of_the_default():
    """The page says again which solver the default is."""
    text = (ROOT / "docs" / "how-to-choose.md").read_text(encoding="utf-8")
    bands = re.findall(
        r"^\*\*(?:up to )?(\d+)(?: to (\d+))?.*\*\* <br>\n`([a-z0-9-]+)`", text, re.M
    )
    assert [solver for *_, solver in bands] == ["unipc-2", "seeds-ab2", "seeds-3"]
    for low, high, solver in bands:
        for nfe in (int(low), int(high or low)):
            assert defaults.solver(nfe, shared=True) == solver
    assert int(bands[1][0]) == int(bands[0][0]) + 1 and int(bands[2][0]) == int(bands[1][1]) + 1
