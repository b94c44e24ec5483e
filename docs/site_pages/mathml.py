"""LaTeX to MathML when the site is built: browsers show it without a script."""

import html
import re

from latex2mathml.converter import convert

# What pymdownx.arithmatex makes of $...$ and $$...$$ with `generic: true`.
INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)


def with_mathml(page: str) -> str:
    """A page's HTML with MathML in the place of its LaTeX.

    Raises:
        ValueError: the converter does not know a command; it names the formula.
    """
    page = BLOCK.sub(lambda found: f'<div class="formula">{mathml(found[1], "block")}</div>', page)
    return INLINE.sub(lambda found: mathml(found[1], "inline"), page)


def mathml(escaped: str, display: str) -> str:
    """One formula, given as it stands in HTML."""
    latex = html.unescape(escaped).strip()
    # The converter has `align*` and `split`, and not the usual name of the same.
    converted: str = convert(latex.replace("{aligned}", "{split}"), display=display).replace(r"\_", "_")
    if "\\" in converted or "<mi>&</mi>" in converted:  # it passes on what it does not know
        raise ValueError(f"no MathML for {latex}")
    return converted
