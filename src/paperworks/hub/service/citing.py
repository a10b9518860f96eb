"""One paper as a line or entry of the formats that other programs read: JSON lines, BibTeX, RIS, CSV.

A paper is the dictionary of `PaperRecord` fields that are not empty.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from typing import Any

CSV_COLUMNS = (
    "title",
    "authors",
    "arxiv",
    "doi",
    "published",
    "announced",
    "categories",
    "journal_ref",
    "url",
    "abstract",
)
CSV_HEADER = ",".join(CSV_COLUMNS) + "\r\n"
_BIBTEX_SIGNS = str.maketrans(
    {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_"}
)
_TEX = re.compile(r"\\[A-Za-z'\"`^~=.]|\$")
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take for a formula


def address(paper: Mapping[str, Any]) -> str:
    """Where the paper is read, '' when unknown."""
    if arxiv := paper.get("arxiv"):
        return f"https://arxiv.org/abs/{arxiv}"
    if doi := paper.get("doi"):
        return f"https://doi.org/{doi}"
    return str(paper.get("url", ""))


def jsonl(paper: Mapping[str, Any]) -> str:
    """A line that `paperworks import` reads back whole."""
    return json.dumps(paper, ensure_ascii=False) + "\n"


def bibtex(paper: Mapping[str, Any]) -> str:
    """An entry; the key is author, year and identifier, so that two papers never share one."""
    authors = paper.get("authors", [])
    year = str(paper.get("published") or paper.get("announced") or "")[:4]
    name = re.sub(r"[^a-z]", "", (authors[0].split()[-1] if authors else "anonymous").lower())
    identity = re.sub(r"[^A-Za-z0-9]+", "", paper.get("arxiv") or paper.get("doi") or paper.get("url") or "")
    fields = {
        "title": f"{{{_bib(paper['title'])}}}",
        "author": " and ".join(_bib(author) for author in authors),
        "year": year,
        "journal": _bib(paper.get("journal_ref", "")),
        "doi": paper.get("doi", ""),
        "eprint": paper.get("arxiv", ""),
        "archiveprefix": "arXiv" if paper.get("arxiv") else "",
        "primaryclass": paper["categories"][0] if paper.get("arxiv") and paper.get("categories") else "",
        "url": address(paper),
        "abstract": _bib(paper.get("abstract", "")),
    }
    kind = "article" if paper.get("journal_ref") else "misc"
    lines = [f"  {name} = {{{value}}},\n" for name, value in fields.items() if value]
    return f"@{kind}{{{name}{year}{identity},\n{''.join(lines)}}}\n\n"


def _bib(text: str) -> str:
    """TeX stays TeX as long as its braces pair; other text gets its special signs escaped."""
    if _TEX.search(text) and _paired(text):
        return re.sub(r"(?<!\\)([&%#])", r"\\\1", text)
    return text.translate(_BIBTEX_SIGNS)


def _paired(text: str) -> bool:
    level = 0
    for sign in re.findall(r"(?<!\\)[{}]", text):
        level += 1 if sign == "{" else -1
        if level < 0:
            return False
    return level == 0


def ris(paper: Mapping[str, Any]) -> str:
    """An entry of the tagged format of reference managers."""
    tags: list[tuple[str, str]] = [("TY", "JOUR" if paper.get("journal_ref") else "GEN"), ("TI", paper["title"])]
    tags += [("AU", author) for author in paper.get("authors", [])]
    day = str(paper.get("published") or paper.get("announced") or "")
    tags += [
        ("PY", day[:4]),
        ("DA", day.replace("-", "/")),
        ("JO", paper.get("journal_ref", "")),
        ("DO", paper.get("doi", "")),
    ]
    tags += [("AN", f"arXiv:{paper['arxiv']}" if paper.get("arxiv") else ""), ("UR", address(paper))]
    tags += [("KW", code) for code in paper.get("categories", [])]
    tags += [("AB", paper.get("abstract", ""))]
    lines = [f"{tag}  - {' '.join(value.split())}\r\n" for tag, value in tags if value]
    return "".join(lines) + "ER  - \r\n\r\n"


def csv_row(paper: Mapping[str, Any]) -> str:
    """A row under `CSV_HEADER`; several authors or categories stand in one cell, parted by semicolons."""
    cells = {
        **{name: str(paper.get(name, "")) for name in CSV_COLUMNS},
        "authors": "; ".join(paper.get("authors", [])),
        "categories": "; ".join(paper.get("categories", [])),
        "url": address(paper),
    }
    out = io.StringIO()
    csv.writer(out).writerow([f"'{cell}" if cell.startswith(_FORMULA_START) else cell for cell in cells.values()])
    return out.getvalue()
