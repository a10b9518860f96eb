"""Settings and paths. `PAPERWORKS_*` variables win over `paperworks.toml` in the hub's folder, which wins over the defaults.

One folder (`home`) holds everything that a hub owns: database, vectors, outbox, records, backups, settings.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from paperworks.errors import InputError

SETTINGS_FILE = "paperworks.toml"


class TrendingSettings(BaseModel):
    """Half-lives in hours, and what one observed upvote elsewhere weighs beside one reader here."""

    day_hours: float = Field(default=24, gt=0)
    week_hours: float = Field(default=84, gt=0)
    month_hours: float = Field(default=360, gt=0)
    outside_weight: float = Field(default=0.1, ge=0)
    hide_hours: float = Field(default=0, ge=0)


class MailSettings(BaseModel):
    """How the digest leaves. The file outbox is the default, so that a fresh install works."""

    transport: str = "outbox"
    sender: str = "paperworks <paperworks@localhost>"
    list_id: str = ""
    smtp_host: str = "localhost"
    smtp_port: int = 587
    smtp_user: str = ""
    smtp_password: str = Field(default="", repr=False)
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_rate_per_minute: float = Field(default=60, gt=0)


class SearchSettings(BaseModel):
    """When search by meaning goes through a compressed index instead of scanning all vectors."""

    compress_above: int = Field(default=300_000, ge=0)  # papers
    memory_mib: float = Field(default=0, ge=0)  # that the vectors may take; more are compressed; 0: no limit


class SourceSettings(BaseModel):
    """Addresses of the services; changed by tests and by mirrors."""

    contact: str = ""
    arxiv_query: str = "https://export.arxiv.org/api/query"
    arxiv_oai: str = "https://oaipmh.arxiv.org/oai"
    huggingface: str = "https://huggingface.co"
    arxiv_gap_s: float = Field(default=3.0, ge=0)
    timeout_s: float = Field(default=30, gt=0)
    max_bytes: int = Field(default=20 * 1024 * 1024, gt=0)


class Settings(BaseSettings):
    """Everything that can be set. Nested names take two underscores: `PAPERWORKS_MAIL__SENDER`."""

    model_config = SettingsConfigDict(env_prefix="PAPERWORKS_", env_nested_delimiter="__", extra="forbid")

    home: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("paperworks")))
    data: Path | None = None  # a folder with the user's data sets, searched by claims
    database: str = ""  # an SQLAlchemy URL; empty: SQLite in `home`
    base_url: str = "http://127.0.0.1:8000"
    hub_name: str = "paperworks"
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    embedder: str = "svd"  # how search by meaning sees papers: the hub's own, or one that a plugin brings
    run_seconds: int = Field(default=4 * 3600, gt=0)
    run_memory_gib: float = Field(default=16, gt=0)
    trending: TrendingSettings = TrendingSettings()
    mail: MailSettings = MailSettings()
    search: SearchSettings = SearchSettings()
    sources: SourceSettings = SourceSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        home = init_settings().get("home") or env_settings().get("home")
        file = Path(home or platformdirs.user_data_dir("paperworks")) / SETTINGS_FILE
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.home / 'hub.sqlite'}"

    @property
    def records(self) -> Path:
        """Where records of measurements lie, one JSON file a run."""
        return self.home / "records"

    @property
    def outbox(self) -> Path:
        return self.home / "outbox"

    @property
    def vectors(self) -> Path:
        return self.home / "vectors"


def load(home: Path | str | None = None, **overrides: Any) -> Settings:
    """Read the settings in force.

    Raises InputError that names the setting and the file, for a file that is not TOML or a value of the wrong kind.
    """
    if home is not None:
        overrides["home"] = Path(home).expanduser().absolute()
    try:
        return Settings(**overrides)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{SETTINGS_FILE} in the hub's folder is not valid TOML: {error}; mend or move the file"
        ) from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
        raise InputError(f"settings: {wrong}; set them in {SETTINGS_FILE} or as PAPERWORKS_* variables") from error
