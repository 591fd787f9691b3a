"""Scripts imported by their names."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


def imported_from(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script of a folder as a module; those of its names from other folders stand aside, for
    scripts import one another."""
    for file in folder.glob("*.py"):
        known = sys.modules.get(file.stem)
        if known and Path(str(known.__file__)).parent != folder:
            monkeypatch.delitem(sys.modules, file.stem)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)
