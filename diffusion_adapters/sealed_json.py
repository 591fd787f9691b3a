"""JSON files that say of themselves whether they are as they were written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expint.plans.file_format import checksum_of


def sealed(content: Mapping[str, Any]) -> str:
    """The text of a file: the content, and a checksum of it."""
    return json.dumps({**content, "checksum": checksum_of(content)}, indent=1) + "\n"


def unsealed(file: Path) -> dict[str, Any] | None:
    """The content of a file that was `sealed`, with its checksum; None if there is no file, or one
    that was cut or changed."""
    try:
        content = json.loads(file.read_text())
        held = {name: value for name, value in content.items() if name != "checksum"}
    except (FileNotFoundError, ValueError, AttributeError):
        return None
    return content if content.get("checksum") == checksum_of(held) else None
