"""Put each paper's README into the documentation as its page, without a copy in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PAPERS = Path(__file__).parents[2] / "src" / "paperworks" / "papers"


def on_files(files: Files, config: Any) -> Files:
    """Add papers/SLUG.md for every paper, and an index of them."""
    index = ["# Papers", "", "A page a paper. Those whose method is to come say so.", ""]
    for readme in sorted(PAPERS.glob("*/README.md")):
        slug = readme.parent.name
        text = readme.read_text(encoding="utf-8")
        files.append(File.generated(config, f"papers/{slug}.md", content=text))
        title = next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), slug)
        runs = "runs here" if (readme.parent / "__init__.py").exists() else "method to come"
        index.append(f"- [{title}]({slug}.md) ({runs})")
    files.append(File.generated(config, "papers/index.md", content="\n".join(index) + "\n"))
    return files
