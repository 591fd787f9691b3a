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


TABLE = """<div class=sortable><table><thead><tr><th>name<th>order<th>NFE</tr></thead><tbody>
<tr><td>a<td>3/2<td>100<tr><td>b<td>–<td>&gt; 100<tr><td>c<td>3<td><tr><td>d<td>1<td>25
</tbody></table></div><script>{}</script>"""


@pytest.mark.skipif(not browser.FOUND, reason="no Chromium here")
def test_a_click_on_a_heading_sorts(tmp_path: Path):
    """Fractions and "> 100" as numbers, a dash and an empty cell last, both ways."""
    script = (Path(__file__).parents[1] / "docs/assets/sort.js").read_text(encoding="utf-8")
    (page,) = written(tmp_path, TABLE.format(script))
    names = "[...document.querySelectorAll('tbody tr')].map((row) => row.cells[0].innerText)"
    expected = [(0, "abcd"), (0, "dcba"), (1, "dacb"), (1, "cadb"), (2, "dabc"), (2, "badc")]
    with browser.chromium() as tab:
        tab.open(page.as_uri(), 800)
        for column, order in expected:
            tab.value(f"document.querySelectorAll('th button')[{column}].click()")
            assert "".join(tab.value(names)) == order, (column, order)
