"""No page of the built site scrolls sideways: `make docs` runs this after mkdocs.

    python tests/built_site.py [site]

Where Chromium is installed every page is opened, 1280 and 390 pixels wide. Elsewhere, and before,
the pages are read: nothing in them has a width in pixels, and all code and tables are inside the
parts that the theme lets scroll by themselves.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import browser

WIDTHS = (1280, 390)
# Charts and code of the page in docs/play/ are measured by tests/test_play.py.
FIXED = re.compile(r"(?<![-\w])(min-)?width:\s*\d{3,}px|white-space:\s*nowrap")


class Article(HTMLParser):
    """What could be wider than its page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a fixed width, and code or a table outside the text of the theme."""
        given = dict(attrs)
        classes = (given.get("class") or "").split()
        if FIXED.search(given.get("style") or "") or int_of(given.get("width")) > min(WIDTHS):
            self.found.append(f"<{tag}> has a fixed width")
        if tag in ("pre", "table") and "md-typeset" not in self.open:
            self.found.append(f"<{tag}> outside the text, which would not scroll by itself")
        if tag == "article":
            self.open += classes

    def handle_endtag(self, tag: str) -> None:
        """The text is one article."""
        if tag == "article":
            self.open.clear()


def int_of(text: str | None) -> int:
    """A number of pixels, 0 for none and for other units."""
    return int(text) if text and text.isdigit() else 0


def read(pages: list[Path]) -> Iterator[str]:
    """What is wrong in the text of the pages."""
    for page in pages:
        article = Article()
        article.feed(page.read_text(encoding="utf-8"))
        yield from (f"{page}: {line}" for line in article.found)


def look(pages: list[Path]) -> Iterator[str]:
    """What is wrong in the browser."""
    with browser.chromium() as tab:
        for page in pages:
            for width in WIDTHS:
                tab.open(page.resolve().as_uri(), width)
                wide = tab.value("document.documentElement.scrollWidth")
                if wide > width:
                    yield f"{page}: {wide} pixels in a window of {width}"


def main(site: Path) -> None:
    """Read the pages, and open them where there is a browser."""
    pages = sorted(page for page in site.rglob("*.html") if page.name != "404.html")
    assert pages, f"no pages in {site}"
    text = [page for page in pages if page.parent.name != "play" or page.name == "index.html"]
    wrong = [*read(text), *(look(pages) if browser.FOUND else ())]
    how = (
        f"at {' and '.join(map(str, WIDTHS))} pixels" if browser.FOUND else "read only, no Chromium"
    )
    print(f"expint: {len(pages)} pages {how}: {len(wrong)} scroll sideways")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "site"))
