"""Pages whose tables stand between marks, and the figures that they are made of."""

import json
from pathlib import Path
from typing import Any

from expint.results import table_text


def filled(text: str, name: str, body: str) -> str:
    """The page with `body` between <!-- name --> and <!-- end of name -->."""
    before, rest = text.split(f"<!-- {name} -->")
    after = rest.split(f"<!-- end of {name} -->")[1]
    return f"{before}<!-- {name} -->\n\n{body}\n\n<!-- end of {name} -->{after}"


def with_table(text: str, name: str, rows: Any, said: str = "") -> str:
    """The page with a table that can be sorted, and what is said before it, between the marks."""
    table = table_text(rows, markdown=True)
    return filled(
        text, name, f'{said}\n\n<div class="sortable" markdown>\n\n{table}\n\n</div>'.lstrip()
    )


def known(file: Path) -> dict[str, Any]:
    """The figures that are there."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"figures": {}}
