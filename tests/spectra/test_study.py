"""The page on stiffness shows the figures that are there."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_has_the_tables_of_its_figures():
    study = runpy.run_path(str(ROOT / "studies" / "stiffness.py"))
    text = (ROOT / "docs" / "stiffness.md").read_text(encoding="utf-8")
    found = json.loads((ROOT / "studies" / "stiffness.json").read_text(encoding="utf-8"))
    assert study["page_of"](text, found) == text
    found["ring"]["study"]["ideal"]["data"] += 1.0
    assert study["page_of"](text, found) != text
