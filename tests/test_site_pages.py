"""The generated pages of the site: an optimizer that there is has its page, and its formula is that of its code."""

import re
import sys

import pytest

from support import OPTIMIZERS, ROOT

sys.path.append(str(ROOT / "docs"))
from site_pages import equivalents
from site_pages.docstring import described
from site_pages.offline import remote_in_html, remote_in_site
from site_pages.page import NOTES, index, optimizers, page


def test_every_optimizer_has_a_page():
    assert set(optimizers()) == set(OPTIMIZERS)
    for cls in OPTIMIZERS:
        text = page(cls)
        assert text.startswith(f"# {cls.__name__}\n")
        assert re.search(r"\d{4}.*\]\(https://", text)  # the paper
        # functions of matrices, and of sums over all arrays, are shown as their sources
        assert r"\theta_{t} &= " in text or cls.matrices is not None or cls.shared_slots
        assert f"def {cls.rule.__name__}(p, g" in text
        assert f"[{cls.__name__}]({cls.__name__.lower()}.md)" in index()


def test_notes_stand_on_the_pages():
    notes = {path.stem: path.read_text(encoding="utf-8") for path in NOTES.iterdir()}
    assert set(notes) <= {cls.__name__.lower() for cls in OPTIMIZERS}
    for cls in OPTIMIZERS:
        if cls.__name__.lower() in notes:
            text = notes[cls.__name__.lower()]
            assert re.findall("^## .*", text, re.MULTILINE) == ["## When to use it", "## Traps"]
            assert text.strip() in page(cls)


def test_every_argument_is_described():
    for cls in OPTIMIZERS:
        own = [x.name for x in cls.__signature__.parameters.values() if x.kind is not x.KEYWORD_ONLY]
        assert ", ".join(names for names, _ in described(cls).arguments) == ", ".join(own), cls.__name__


def test_every_optimizer_has_equivalents_or_says_none():
    for cls in OPTIMIZERS:
        rows = equivalents.rows_of(cls.__name__)
        assert rows or cls.__name__ in equivalents.DATA["none"], cls.__name__
        for row in rows:
            for key in ("ours", *equivalents.LIBRARIES):
                assert key not in row or f"`{row[key]}`" in page(cls)


def test_mathml():
    pytest.importorskip("latex2mathml", reason="converts LaTeX with latex2mathml, which comes with the extra docs")
    from site_pages.mathml import with_mathml

    inline = with_mathml(r'<p>a <span class="arithmatex">\(\beta_1 &lt; 1\)</span> b</p>')
    assert re.fullmatch(r'<p>a <math [^>]*display="inline">.*<mi>&#x003B2;</mi>.*&#x0003C;.*</math> b</p>', inline)
    lines = r"\begin{aligned} a &amp;= b \\ c &amp;= d \end{aligned}"
    block = with_mathml(f'<div class="arithmatex">\\[\n{lines}\n\\]</div>')
    assert block.count("<mtr>") == 2
    assert 'display="block"' in block
    with pytest.raises(ValueError, match=r"no MathML for \\nosuch"):
        with_mathml(r'<span class="arithmatex">\(\nosuch{x}\)</span>')
    for cls in OPTIMIZERS:
        for latex in re.findall(r"\$\$(.*?)\$\$", page(cls)):
            escaped = latex.replace("&", "&amp;")
            assert "\\" not in with_mathml(rf'<div class="arithmatex">\[{escaped}\]</div>')


REMOTE = [
    '<script src="https://x.org/a.js"></script>',
    '<link rel="stylesheet" href="//x.org/a.css">',
    "<link rel=preconnect href=http://x.org crossorigin>",
    "<img alt='' src=https://x.org/a.png>",
    "<style>@import 'https://x.org/a.css';</style>",
    '<p style="background: url(//x.org/a.png)">',
]


@pytest.mark.parametrize("text", REMOTE)
def test_what_is_loaded_from_elsewhere_is_found(text, tmp_path):
    local = '<a href="https://x.org">x</a><link href="a.css"><script src="../a.js"></script><code>https://x.org</code>'
    assert not remote_in_html(local)
    assert len(remote_in_html(local + text)) == 1
    (tmp_path / "a.html").write_text(local + text)
    (tmp_path / "a.css").write_text("p { background: url(b.png) } @font-face { src: url(https://x.org/c) }")
    assert len(remote_in_site(tmp_path)) == 2
