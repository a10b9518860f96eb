"""What a provider asks for: dated prices from a TOML file, never constants in code."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

from paperworks.errors import InputError

_BUNDLED = Path(__file__).with_name("prices.toml")


@dataclass(frozen=True)
class Prices:
    """Prices on one day, in `currency`; every one is a parameter. 0 means that nothing is charged.

    per_call: a start of a function. per_gb_second: memory of a function (1 GB = 1024 MB) times seconds. per_get, per_put: a request
    to object storage. per_gb_read: 10^9 bytes read from a shared file system.

    >>> prices = Prices.bundled("aws_lambda_x86")
    >>> prices.dated.isoformat(), prices.currency
    ('2026-06-13', 'USD')
    """

    dated: date
    currency: str
    per_call: float
    per_gb_second: float
    per_get: float
    per_put: float
    per_gb_read: float
    region: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.dated, date):
            raise InputError(f"dated must be a date such as 2026-01-31, got {self.dated!r}")
        for name in ("per_call", "per_gb_second", "per_get", "per_put", "per_gb_read"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise InputError(f"{name} must be a price, 0 or more, got {value!r}")

    @classmethod
    def from_toml(cls, path: str | Path, name: str | None = None) -> Prices:
        """Read a price list. name: its table when the file holds several, as the bundled one does.

        Raises InputError when the file, the table or a price cannot be used; unknown keys are refused, so that no typing slip
        makes something free of charge.
        """
        try:
            content = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"the prices in {path} cannot be read: {error}") from error
        tables = {key: value for key, value in content.items() if isinstance(value, dict)}
        if name is None and len(tables) == 1:
            name = next(iter(tables))
        if name is not None or tables:
            if name not in tables:
                raise InputError(
                    f"{path} has the price lists {', '.join(tables) or 'none'}; name one of them, got {name!r}"
                )
            content = tables[name]
        known = {item.name for item in fields(cls)}
        needed = known - {"region", "source"}
        if wrong := sorted((set(content) - known) | (needed - set(content))):
            raise InputError(
                f"{path} must have exactly the keys {', '.join(sorted(needed))}; wrong or missing: {', '.join(wrong)}"
            )
        return cls(**content)

    @classmethod
    def bundled(cls, name: str = "aws_lambda_x86") -> Prices:
        """A price list that comes with this package: aws_lambda_x86 or aws_lambda_arm. Look at its date before you rely on it."""
        return cls.from_toml(_BUNDLED, name)
