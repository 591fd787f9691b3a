"""The check of the built site sees what scrolls sideways, by reading and in a browser."""

from pathlib import Path

import browser
import built_site
import pytest

PAGE = "<meta name=viewport content='width=device-width'><article class=md-typeset>{}</article>{}"
FINE = PAGE.format("<pre style='overflow: auto'>" + 200 * "x" + "</pre>", "")
WRONG = {
    "<div style='width: 900px'>": PAGE.format("<div style='width: 900px'>.</div>", ""),
    "<img width=800>": PAGE.format("<img width=800 height=1>", ""),
    "<pre> outside the text": PAGE.format("", "<pre>" + 400 * "x" + "</pre>"),
}


def written(folder: Path, text: str) -> list[Path]:
    page = folder / "index.html"
    page.write_text("<!doctype html>" + text, encoding="utf-8")
    return [page]


@pytest.mark.parametrize("what", WRONG)
def test_reading_finds_what_is_wide(what: str, tmp_path: Path):
    assert not [*built_site.read(written(tmp_path, FINE))]
    assert len([*built_site.read(written(tmp_path, WRONG[what]))]) == 1


@pytest.mark.skipif(not browser.FOUND, reason="no Chromium here")
def test_so_does_the_browser(tmp_path: Path):
    assert not [*built_site.look(written(tmp_path, FINE))]
    assert len([*built_site.look(written(tmp_path, WRONG["<div style='width: 900px'>"]))]) == 1
    assert len([*built_site.look(written(tmp_path, WRONG["<pre> outside the text"]))]) == 2
