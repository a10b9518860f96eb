"""Find the functions that measure a paper's claims, and say where they and `paper.toml` disagree."""

from __future__ import annotations

from paperworks.catalogue import RunnablePaper
from paperworks.claims.model import CLAIM_ATTRIBUTE, ClaimFunction
from paperworks.errors import ClaimError, MissingExtra, PaperworksError


def functions(paper: RunnablePaper) -> dict[str, ClaimFunction]:
    """The functions marked by `@claim` in the paper's `reproduce.py`, by claim id, in the order of the file.

    Raises ClaimError when the file is missing or broken, marks one id twice, or marks an id that `paper.toml` lacks;
    MissingExtra when importing it needs an optional install.
    """
    place = f"{paper.slug}/reproduce.py"
    if not paper.has_measurements or not paper.has_method:
        raise ClaimError(f"{paper.slug} has no {place}; its claims cannot be measured here yet")
    try:
        module = paper.load("reproduce")
    except PaperworksError:
        raise
    except ModuleNotFoundError as error:
        if paper.spec.extra and error.name and error.name.partition(".")[0] != paper.package.partition(".")[0]:
            raise MissingExtra(f"{paper.slug} ({error.name})", paper.spec.extra) from error
        raise ClaimError(f"{place} cannot be imported: {error}; mend it, then measure again") from error
    except Exception as error:
        raise ClaimError(
            f"{place} cannot be imported: {type(error).__name__}: {error}; mend it, then measure again"
        ) from error
    found: dict[str, ClaimFunction] = {}
    for name, item in vars(module).items():
        claim_id = getattr(item, CLAIM_ATTRIBUTE, None) if callable(item) else None
        if not isinstance(claim_id, str) or item is found.get(claim_id):
            continue
        if claim_id in found:
            first = getattr(found[claim_id], "__name__", "?")
            raise ClaimError(f"{place} measures {claim_id!r} twice, in {first} and {name}; keep one function a claim")
        found[claim_id] = item
    unknown = sorted(set(found) - {spec.id for spec in paper.claims})
    if unknown:
        known = ", ".join(spec.id for spec in paper.claims) or "none"
        raise ClaimError(
            f"{place} measures {', '.join(map(repr, unknown))}, which paper.toml does not claim; its claims are: {known}"
        )
    return found


def function(paper: RunnablePaper, claim_id: str) -> ClaimFunction:
    """The function of one claim. Raises NotFound for an id that `paper.toml` lacks, ClaimError when nothing measures it."""
    paper.claim(claim_id)
    found = functions(paper)
    if claim_id not in found:
        raise ClaimError(
            f'{paper.slug}/reproduce.py has no function for {claim_id!r}; write one marked @claim("{claim_id}"), '
            f"it has: {', '.join(found) or 'none'}"
        )
    return found[claim_id]
