"""What packages, tools and workflows say of the project is said once, or agrees."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

import expint
from diffusion_adapters.shipped import tuned_plans

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FIRST = PYPROJECT["project"]["requires-python"].removeprefix(">=")
WORKFLOWS = {path.name: path for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """A YAML file. YAML 1.1 takes the key `on` for the truth value."""
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in loaded.items()}


def test_the_version_stands_in_one_place():
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    path = PYPROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{expint.__version__}"\n' in text(path)
    assert f"\nversion: {expint.__version__}\n" in text("CITATION.cff")


def test_both_packages_ship_their_types():
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert wheel == ["expint", "diffusion_adapters"]
    for package in wheel:
        assert (ROOT / package / "py.typed").read_bytes() == b""


def test_networks_and_plans_are_in_the_wheel():
    """All files of the packages are, but those that version control ignores."""
    targets = PYPROJECT["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"].keys() == {"packages"}
    ignored = [line for line in text(".gitignore").splitlines() if line and line[0] != "#"]
    for folder, suffix in (("data", "json"), ("data", "safetensors"), ("plans", "json")):
        parts = Path(f"diffusion_adapters/shipped/{folder}/digits-vp-stochastic-10.{suffix}").parts
        assert parts[0] in targets["wheel"]["packages"]
        assert f"/{parts[0]}" in targets["sdist"]["include"]
        assert not [
            (part, line) for part in parts for line in ignored if fnmatch(part, line.rstrip("/"))
        ]
    assert tuned_plans.PLANS == ROOT / "diffusion_adapters" / "shipped" / "plans"


def test_one_lowest_python():
    assert FIRST == "3.11"
    assert PYPROJECT["tool"]["basedpyright"]["pythonVersion"] == FIRST
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py" + FIRST.replace(".", "")
    matrix = read(WORKFLOWS["checks.yml"])["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    classified = [
        line.rsplit(" ", 1)[1]
        for line in PYPROJECT["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    assert matrix == classified and matrix[0] == FIRST
    for name in (".ci/run", "Makefile", "README.md", "docs/quickstart.md", "CONTRIBUTING.md"):
        assert re.findall(r"(3\.\d+) or later", text(name)), f"{name} names no lowest Python"
        assert set(re.findall(r"(3\.\d+) or later", text(name))) == {FIRST}
    assert "python_version" not in text("constraints.txt")


def test_one_version_of_ruff():
    hooks = {hook["repo"]: hook["rev"] for hook in read(ROOT / ".pre-commit-config.yaml")["repos"]}
    pinned = re.search(r"^ruff==(.+)$", text("constraints.txt"), re.MULTILINE)
    assert pinned and hooks["https://github.com/astral-sh/ruff-pre-commit"] == "v" + pinned[1]


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_workflows_are_valid(name: str):
    """What GitHub requires of a workflow, and that every target it makes exists."""
    workflow = read(WORKFLOWS[name])
    assert workflow["on"] and workflow["permissions"] == {"contents": "read"}
    for job, content in workflow["jobs"].items():
        assert set(content.get("needs", [])) <= set(workflow["jobs"]) - {job}
        if "uses" in content:
            assert (ROOT / content["uses"]).is_file()
            continue
        assert content["runs-on"]
        for step in content["steps"]:
            assert ("uses" in step) != ("run" in step), f"{job}: {step}"
            assert "@" in step.get("uses", "@")
            for target in re.findall(r"\bmake (\w+)", step.get("run", "")):
                assert f"\n{target}:" in text("Makefile")


def test_what_ci_runs_is_what_the_workflow_runs():
    commands = [
        step["run"].split(" JOBS=")[0]
        for job in read(WORKFLOWS["checks.yml"])["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    assert sorted(commands) == sorted(re.findall(r"^make \w+$", text(".ci/run"), re.MULTILINE))


def test_issue_templates_are_valid():
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        template = read(path)
        assert template["name"] and template["description"]
        identifiers = [field["id"] for field in template["body"]]
        assert len(set(identifiers)) == len(identifiers)
        for field in template["body"]:
            assert field["type"] in ("input", "textarea") and field["attributes"]["label"]
