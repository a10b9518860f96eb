"""Take pictures of every page, for looking at: light and dark, wide and narrow.

    python tests/browser/screens.py http://127.0.0.1:8000 [folder] [part of an address ...]

The hub must be running. Pictures go to ./screenshots (not kept in the repository).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PAGES = (
    "/", "/papers", "/papers?q=low-rank", "/papers?q=zzzz+qqqq", "/day", "/category", "/category/cs.LG", "/claims", "/runs", "/sources",
    "/subscribe", "/subscribe?preview=1", "/about", "/trending/how", "/nowhere",
)  # fmt: skip
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SHAPES = {"wide": (1280, 900), "narrow": (380, 1400)}


def main(address: str, folder: Path, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"), args=ARGUMENTS
        )
        for theme in ("light", "dark"):
            for shape, (width, height) in SHAPES.items():
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
                page = context.new_page()
                page.goto(address)
                links = [link.get_attribute("href") or "" for link in page.locator("a[data-open]").all()]
                own = [re.sub(r"/method$", "", link) for link in links if link.endswith("/method")][:1]
                pages = [
                    *PAGES,
                    *links[:1],
                    *(link + tab for link in own for tab in ("", "/method", "/claims", "/similar")),
                ]
                for path in pages:
                    if only and not any(part in path for part in only):
                        continue
                    page.goto(address + path)
                    name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "front"
                    page.screenshot(
                        path=folder / f"{name}.{theme}.{shape}.png", full_page=shape == "wide" and name == "front"
                    )
                    excess = page.evaluate(
                        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                    )
                    if excess > 0:
                        print(f"{path} at {width} px scrolls sideways by {excess} px")
                context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), Path(sys.argv[2]) if len(sys.argv) > 2 else Path("screenshots"), sys.argv[3:])
