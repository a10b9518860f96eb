"""Where papers come from. One file a source; `http.py` is the one polite client; each yields the same `PaperRecord`."""

from paperworks.hub.sources.base import Source, kinds, open_source

__all__ = ["Source", "kinds", "open_source"]
