"""The generated pages of the site: an optimizer that there is has its page, and its formula is that of its code."""

import ast
import itertools
import math
import re
import sys
from math import sqrt

import pytest

import fastoptim
from fastoptim import Number, Optimizer, fraction, nonnegative, rule, switch
from support import OPTIMIZERS, ROOT
from variants import variants_of

sys.path.append(str(ROOT / "docs"))
from site_pages import equivalents
from site_pages.docstring import described
from site_pages.formula import formula
from site_pages.offline import remote_in_html, remote_in_site
from site_pages.page import NOTES, index, optimizers, page, traffic
from site_pages.scalars import scalars


def equations(cls, *variant, **known):
    found = formula(cls, variant, **known)
    return [f"{left} = {right}" for left, right in [*found.numbers, *found.rule]]


def test_every_optimizer_has_a_page():
    assert set(optimizers()) == set(OPTIMIZERS)
    for cls in OPTIMIZERS:
        text = page(cls)
        assert text.startswith(f"# {cls.__name__}\n")
        assert re.search(r"\d{4}.*\]\(https://", text)  # the paper
        assert r"\theta_{t} &= " in text
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


@rule
def slow(p, g, m, v, a, half_lr, one_minus_beta1, eps):
    m, v = v - m, m + g * g * g  # both sides as they were
    m = m + one_minus_beta1 * (g - m)
    a = a / eps
    step = half_lr * abs(m) if m >= a else -half_lr
    return p - step * (m - a), m, v + m, a


class Slow(Optimizer):
    """Slow: `p` hardly moves.

    It is made for a test.

    Args:
        lr: how far, and
            no farther.
        beta1: what stays.
    """

    rule, slots = slow, ("m", "v", "a")
    lr: Number = nonnegative(1e-3)
    beta1: Number = fraction(0.5)
    eps: Number = nonnegative(1e-8)
    fast: bool = switch(False)
    loud: bool = switch(False)

    def scalars(self, t):
        """Text."""
        beta1, half = self.beta1, 0.5
        if self.fast:
            half = 2.0 * sqrt(t) * sqrt(t)
        return half * self.lr, 1 - beta1, *((self.eps * 1e-8 if self.loud else self.eps) for _ in "1")


class Regular(Slow):
    """The same with numbers that can be read."""

    def scalars(self, t):
        beta1, half = self.beta1, 0.5
        if self.fast:
            half = 2.0 * sqrt(t) * sqrt(t)
        eps = self.eps * 1e-8 ** (1 + t) if self.loud and not self.fast else self.eps
        return *(half * self.lr, 1 - beta1), eps


def test_a_class_made_on_the_spot():
    text = page(Regular)
    assert traffic(Regular) == 4 * (3 + 2 * 3)
    assert "| the formula alone | 36 |" in text
    assert "`m`, `v`, `a`: 12 bytes" in text
    assert "None is known." in text
    assert "def slow(p, g, m, v, a" in text
    assert r"$\eta$ is `lr`, $\beta_{1}$ is `beta1`, $\varepsilon$ is `eps`." in text
    assert "Regular(lr=0.001, beta1=0.5, eps=1e-08, fast=False, loud=False, **options)" in text
    assert equations(Regular) == [
        r"\text{half_lr}_{t} = \begin{cases} 2 t \eta & \text{if } \texttt{fast} \\ 0.5 \eta & \text{otherwise} "
        r"\end{cases}",
        r"\varepsilon_{t} = \begin{cases} \varepsilon \left(10^{-8}\right)^{1 + t} & \text{if } \texttt{loud} "
        r"\text{ and } \text{not } \texttt{fast} \\ \varepsilon & \text{otherwise} \end{cases}",
        r"m'_{t} = v_{t-1} - m_{t-1}",
        r"v'_{t} = m_{t-1} + g_{t}^{3}",
        r"m_{t} = m'_{t} + \left(1 - \beta_{1}\right) \left(g_{t} - m'_{t}\right)",
        r"a_{t} = \frac{a_{t-1}}{\varepsilon_{t}}",
        r"\text{step}_{t} = \begin{cases} \text{half_lr}_{t} \, \left|m_{t}\right| & \text{if } m_{t} \ge a_{t} \\ "
        r"-\text{half_lr}_{t} & \text{otherwise} \end{cases}",
        r"\theta_{t} = \theta_{t-1} - \text{step}_{t} \, \left(m_{t} - a_{t}\right)",
        r"v_{t} = v'_{t} + m_{t}",
    ]
    assert equations(Regular, fast=True)[0] == r"\text{half_lr}_{t} = 2 t \eta"


def test_a_class_whose_numbers_cannot_be_read_shows_its_rule_alone():
    text = page(Slow)
    assert "def slow(p, g, m, v, a" in text
    assert "$$" not in text


def test_a_docstring_is_taken_apart():
    about = described(Slow)
    assert about.summary == "Slow: `p` hardly moves."
    assert about.details.strip() == "It is made for a test."
    assert about.arguments == [("lr", "how far, and no farther."), ("beta1", "what stays.")]


def test_formulas_of_the_library():
    assert equations(fastoptim.SGD) == [r"\theta_{t} = \theta_{t-1} - \eta g_{t}"]
    assert equations(fastoptim.SGD, "momentum", "nesterov") == [
        r"\text{one_minus_dampening}_{t} = \begin{cases} 1 & \text{if } t = 1 \\ 1 - \text{dampening} & "
        r"\text{otherwise} \end{cases}",
        r"b_{t} = \mu b_{t-1} + \text{one_minus_dampening}_{t} \, g_{t}",
        r"\theta_{t} = \theta_{t-1} - \eta \left(g_{t} + \mu b_{t}\right)",
    ]
    assert equations(fastoptim.RMSprop) == [
        r"h_{t} = \rho h_{t-1} + \left(1 - \rho\right) g_{t}^{2}",
        r"\theta_{t} = \theta_{t-1} - \frac{\eta g_{t}}{\sqrt{h_{t}} + \varepsilon}",
    ]
    assert equations(fastoptim.Adam) == [
        r"\alpha_{t} = \frac{\eta \sqrt{1 - \beta_{2}^{t}}}{1 - \beta_{1}^{t}}",
        r"\varepsilon_{t} = \begin{cases} \varepsilon & \text{if } \texttt{eps_hat} \\ "
        r"\varepsilon \sqrt{1 - \beta_{2}^{t}} & \text{otherwise} \end{cases}",
        r"m_{t} = m_{t-1} + \left(1 - \beta_{1}\right) \left(g_{t} - m_{t-1}\right)",
        r"v_{t} = v_{t-1} + \left(1 - \beta_{2}\right) \left(g_{t}^{2} - v_{t-1}\right)",
        r"\theta_{t} = \theta_{t-1} - \frac{\alpha_{t} m_{t}}{\sqrt{v_{t}} + \varepsilon_{t}}",
    ]
    assert equations(fastoptim.Lion) == [
        r"c_{t} = m_{t-1} + \left(1 - \beta_{1}\right) \left(g_{t} - m_{t-1}\right)",
        r"\text{step}_{t} = \begin{cases} \eta & \text{if } c_{t} > 0 \\ -\eta & \text{if } c_{t} < 0 \\ c_{t} & "
        r"\text{otherwise} \end{cases}",
        r"\theta_{t} = \theta_{t-1} - \text{step}_{t}",
        r"m_{t} = m_{t-1} + \left(1 - \beta_{2}\right) \left(g_{t} - m_{t-1}\right)",
    ]


def test_the_numbers_of_a_step_are_those_that_the_code_computes():
    for cls in [*OPTIMIZERS, Regular]:
        for hyperparameters in [{}, *variants_of(cls)]:
            opt = cls(**hyperparameters)
            chosen = {name: name in opt.variant for key in cls.variants for name in key}
            everything = chosen | {name: x for name, x in vars(opt).items() if isinstance(x, bool)}
            if cls.carry is not None:
                opt.carry = 0.3
            for known, t in itertools.product([chosen, everything], [1, 3, 30]):
                read = [ast.unparse(x) for x in scalars(cls, known).returned]
                numbers = [eval(x, vars(math) | {"self": opt, "t": t}) for x in read]
                assert numbers == pytest.approx(opt.scalars(t), rel=1e-14), (opt, read)


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
