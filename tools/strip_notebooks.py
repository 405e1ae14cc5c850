"""Take out of stored notebooks what differs with every run and tells a reader nothing.

    python tools/strip_notebooks.py NOTEBOOK ...

These are the times of the cells and what libraries print of their progress. Results stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def stripped(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without times and without what was printed as an error stream."""
    for cell in notebook["cells"]:
        cell["metadata"].pop("execution", None)
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    return notebook


def main() -> None:
    for name in sys.argv[1:]:
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        new = json.dumps(stripped(json.loads(text)), indent=1, ensure_ascii=False) + "\n"
        if new != text:
            path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
