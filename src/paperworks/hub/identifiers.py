"""Recognise what people paste: arXiv ids and addresses, DOIs, OpenReview and ACL Anthology addresses.

One work has one spelling here: arXiv ids without version and without subject class (`math.GT/0309136` is `math/0309136`),
DOIs in lower case, and arXiv's own DOIs (`10.48550/arXiv.…`) as arXiv ids.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit


class Reference(NamedTuple):
    """A scheme (arxiv, doi, openreview, acl), a value in the one spelling, and the version if it was given."""

    scheme: str
    value: str
    version: int | None = None


_NEW_ARXIV = re.compile(r"(\d\d)(0[1-9]|1[0-2])\.(\d{4,5})(?:v([1-9]\d{0,2}))?", re.ASCII)
_ARCHIVES = (
    "acc-phys|adap-org|alg-geom|ao-sci|astro-ph|atom-ph|bayes-an|chao-dyn|chem-ph|cmp-lg|comp-gas|cond-mat|cs|dg-ga|funct-an"
    "|gr-qc|hep-ex|hep-lat|hep-ph|hep-th|math|math-ph|mtrl-th|nlin|nucl-ex|nucl-th|patt-sol|physics|plasm-ph|q-alg|q-bio"
    "|quant-ph|solv-int|supr-con"
)
_OLD_ARXIV = re.compile(
    rf"({_ARCHIVES})(?:\.[a-z-]{{2,10}})?/(\d\d(?:0[1-9]|1[0-2])\d{{3}})(?:v([1-9]\d{{0,2}}))?", re.I | re.A
)
_DOI = re.compile(r"10\.\d{4,9}/\S{1,300}", re.ASCII)
_OPENREVIEW = re.compile(r"[A-Za-z0-9_-]{6,20}")
_ACL = re.compile(r"(?:[A-Z]\d\d-\d{4,5}|(?:19|20)\d\d\.[a-z0-9_]{2,24}-[a-z0-9_]{1,24}\.\d{1,5})")
_ARXIV_DOI = "10.48550/arxiv."
_ARXIV_HOSTS = ("arxiv.org", "alphaxiv.org", "ar5iv.org", "ar5iv.labs.arxiv.org")
_LONGEST = 2_000  # nothing that names a paper is longer


def parse_reference(text: str) -> Reference | None:
    """What `text` as a whole names, or None when it names nothing known. Never raises.

    >>> parse_reference("https://arxiv.org/pdf/2301.13838v2.pdf")
    Reference(scheme='arxiv', value='2301.13838', version=2)
    >>> parse_reference("doi:10.1145/3292500.3330701").value
    '10.1145/3292500.3330701'
    >>> parse_reference("2313.00001") is None  # there is no month 13
    True
    """
    if text[:1].isdigit() and (found := parse_arxiv(text)):  # what nearly all are
        return found
    text = text.strip().strip("<>").strip()
    if not text or len(text) > _LONGEST or any(char.isspace() for char in text.strip()):
        compact = re.sub(r"^(arxiv|doi|openreview|acl)\s*:\s*", r"\1:", text[:_LONGEST], flags=re.IGNORECASE)
        if compact == text or any(char.isspace() for char in compact):
            return None
        text = compact
    if re.match(r"https?://|www\.", text, re.IGNORECASE):
        return _from_address(text)
    if (bare := re.match(r"[a-z0-9.-]{4,60}/", text, re.IGNORECASE)) and _known_host(bare[0][:-1]):
        return _from_address(text)
    prefix, colon, rest = text.partition(":")
    if colon:
        match prefix.lower():
            case "arxiv":
                return parse_arxiv(rest)
            case "doi":
                return _parse_doi(rest)
            case "openreview":
                return Reference("openreview", rest) if _OPENREVIEW.fullmatch(rest) else None
            case "acl":
                return Reference("acl", rest) if _ACL.fullmatch(rest) else None
    return parse_arxiv(text) or _parse_doi(text) or (Reference("acl", text) if _ACL.fullmatch(text) else None)


def parse_arxiv(text: str) -> Reference | None:
    """An arXiv id, new style or old, with or without version.

    >>> parse_arxiv("cs/0701001v3")
    Reference(scheme='arxiv', value='cs/0701001', version=3)
    """
    if new := _NEW_ARXIV.fullmatch(text):
        year, month, number, version = new.groups()
        if (len(number) == 4) != (year + month <= "1412") or year + month < "0704":
            return None  # four digits until December 2014, five since
        return Reference("arxiv", f"{year}{month}.{number}", int(version) if version else None)
    if old := _OLD_ARXIV.fullmatch(text):
        return Reference("arxiv", f"{old[1].lower()}/{old[2]}", int(old[3]) if old[3] else None)
    return None


def _parse_doi(text: str) -> Reference | None:
    text = text.rstrip(".,;")
    if text.count(")") > text.count("("):  # '(see 10.1000/x)', but '10.1016/0092-8674(94)90531-2' keeps its own
        text = text.rstrip(")")
    if not _DOI.fullmatch(text):
        return None
    doi = text.lower()
    if doi.startswith(_ARXIV_DOI):
        return parse_arxiv(doi.removeprefix(_ARXIV_DOI))
    return Reference("doi", doi)


def _known_host(host: str) -> bool:
    host = host.lower().removeprefix("www.")
    return host in _ARXIV_HOSTS or host in ("doi.org", "dx.doi.org", "openreview.net", "aclanthology.org", "hf.co", "huggingface.co") or host.endswith(".arxiv.org")  # fmt: skip


def _from_address(text: str) -> Reference | None:
    try:
        parts = urlsplit(text if re.match(r"https?://", text, re.IGNORECASE) else f"https://{text}")
        host, path, query = (parts.hostname or "").removeprefix("www."), unquote(parts.path), parse_qs(parts.query)
    except ValueError:
        return None
    if host in _ARXIV_HOSTS or host.endswith(".arxiv.org"):
        kind, _, rest = path.lstrip("/").partition("/")
        if kind in ("abs", "pdf", "html", "ps", "format", "overview", "papers", "src", "e-print"):
            return parse_arxiv(re.sub(r"\.(pdf|ps\.gz|md)$", "", rest.strip("/"), flags=re.IGNORECASE))
        return None
    if host in ("huggingface.co", "hf.co"):
        kind, _, rest = path.lstrip("/").partition("/")
        return parse_arxiv(rest.strip("/").removesuffix(".md")) if kind == "papers" else None
    if host in ("doi.org", "dx.doi.org"):
        return _parse_doi(path.lstrip("/"))
    if host == "openreview.net":
        value = query.get("id", [""])[0]
        return Reference("openreview", value) if _OPENREVIEW.fullmatch(value) else None
    if host in ("aclanthology.org", "aclweb.org"):
        value = re.sub(r"\.(pdf|bib)$", "", path.removeprefix("/anthology").strip("/"), flags=re.IGNORECASE)
        return Reference("acl", value) if _ACL.fullmatch(value) else None
    return None
