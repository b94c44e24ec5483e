"""The formulas on the pages of optimizers are those of their code: of the library's, and of classes made for a test."""

import ast
import itertools
import math
import sys
from math import sqrt

import pytest

import fastoptim
from fastoptim import Number, Optimizer, fraction, nonnegative, rule, switch
from fastoptim.settings.carry import carried
from support import OPTIMIZERS, ROOT
from variants import variants_of

sys.path.append(str(ROOT / "docs"))
from site_pages.docstring import described
from site_pages.formula import evaluation, formula
from site_pages.page import page, traffic
from site_pages.scalars import scalars


def equations(cls, *variant, **known):
    found = formula(cls, variant, **known)
    return [f"{left} = {right}" for left, right in [*found.numbers, *found.rule]]


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


@rule
def carries(p, g, m, lr, part):
    return p - lr * g, m + part * (p - m)


@rule
def judged(p, g, m, size):
    x = m - p
    return p + size * x


class Carries(Optimizer):
    """Carries two numbers without names."""

    rule, slots, evaluation = carries, ("m",), judged
    carry = (0.0, 1.0)
    lr: Number = nonnegative(1e-3)

    def next_carry(self, t):
        return self.carry[0] + t, self.carry[1] * self.lr

    def scalars(self, t):
        return self.lr * self.carry[1], self.carry_before[0] / self.carry[0]

    def evaluation_scalars(self, t):
        return (1 - 1 / self.carry[1],)


class Product(Carries):
    """Carries one number."""

    carry = 1.0

    def next_carry(self, t):
        return self.lr * self.carry

    def scalars(self, t):
        return self.carry, self.carry_before


def test_what_is_carried_and_the_parameters_to_evaluate_with():
    assert equations(Carries) == [
        r"\text{carry}_{1,t} = \text{carry}_{1,t-1} + t",
        r"\text{carry}_{2,t} = \text{carry}_{2,t-1} \, \eta",
        r"\eta_{t} = \eta \, \text{carry}_{2,t}",
        r"\text{part}_{t} = \frac{\text{carry}_{1,t-1}}{\text{carry}_{1,t}}",
        r"\theta_{t} = \theta_{t-1} - \eta_{t} g_{t}",
        r"m_{t} = m_{t-1} + \text{part}_{t} \, \left(\theta_{t-1} - m_{t-1}\right)",
    ]
    assert equations(Product) == [
        r"\text{carry}_{t} = \eta \, \text{carry}_{t-1}",
        r"\theta_{t} = \theta_{t-1} - \text{carry}_{t} \, g_{t}",
        r"m_{t} = m_{t-1} + \text{carry}_{t-1} \, \left(\theta_{t-1} - m_{t-1}\right)",
    ]
    found = evaluation(Carries)
    assert [*found.numbers, *found.rule] == [
        (r"\text{size}_{t}", r"1 - \frac{1}{\text{carry}_{2,t}}"),
        (r"x'_{t}", r"m_{t} - \theta_{t}"),
        (r"x_{t}", r"\theta_{t} + \text{size}_{t} \, x'_{t}"),
    ]
    text = page(Carries)
    assert "### The parameters to evaluate with" in text
    assert "def judged(p, g, m, size)" in text
    assert "with `ema`" not in text


def test_a_class_whose_numbers_cannot_be_read_shows_its_rule_alone():
    text = page(Slow)
    assert "def slow(p, g, m, v, a" in text
    assert "$$" not in text


class Decaying(Slow):
    """Its weight decay is on by default, and it has a number that its own methods compute."""

    weight_decay = 0.5

    def half(self, t):
        return 0.5 if self.fast else self.fading(t)

    def fading(self, t):
        return 1 / t

    def scalars(self, t):
        mu_t, nu_t = self.half(t), self.half(t + 1)
        return mu_t * self.lr, mu_t, nu_t * mu_t


def test_methods_of_a_class_and_decay_by_default():
    found = equations(Decaying, fast=False)
    assert found[:3] == [r"\mu_{t} = \frac{1}{t}", r"\nu_{t} = \frac{1}{t + 1}", r"\text{half_lr}_{t} = \mu_{t} \eta"]
    assert r"g'_{t} = g_{t} + \lambda \theta_{t-1}" in found
    assert r"v'_{t} = m_{t-1} + g'_{t}^{3}" in found
    assert "Decaying(lr=0.001, beta1=0.5, eps=1e-08, fast=False, loud=False, weight_decay=0.5, **options)" in page(
        Decaying
    )


class Endless(Slow):
    """A method of it calls itself: it has no formula."""

    def half(self, t):
        return self.half(t)

    def scalars(self, t):
        return self.half(t), self.lr, self.lr


def test_a_method_that_calls_itself_has_no_formula():
    assert "$$" not in page(Endless)


def test_a_docstring_is_taken_apart():
    about = described(Slow)
    assert about.summary == "Slow: `p` hardly moves."
    assert about.details.strip() == "It is made for a test."
    assert about.arguments == [("lr", "how far, and no farther."), ("beta1", "what stays.")]


def test_formulas_of_the_library():
    assert equations(fastoptim.SGD) == [r"\theta_{t} = \theta_{t-1} - \eta g_{t}"]
    assert equations(fastoptim.SGD, "momentum", "nesterov") == [
        r"\text{one_minus_dampening}_{t} = \begin{cases} 1 & \text{if } t = 1 \text{ or } \mu = 0 \\ "
        r"1 - \text{dampening} & \text{otherwise} \end{cases}",
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
    assert equations(fastoptim.AdamW)[2:] == [
        r"\theta'_{t} = \theta_{t-1} - \eta \lambda \theta_{t-1}",
        r"m_{t} = m_{t-1} + \left(1 - \beta_{1}\right) \left(g_{t} - m_{t-1}\right)",
        r"v_{t} = v_{t-1} + \left(1 - \beta_{2}\right) \left(g_{t}^{2} - v_{t-1}\right)",
        r"\theta_{t} = \theta'_{t} - \frac{\alpha_{t} m_{t}}{\sqrt{v_{t}} + \varepsilon_{t}}",
    ]
    assert equations(fastoptim.NAdam)[:4] == [
        r"\mu_{t} = \beta_{1} \left(1 - 0.5 \cdot 0.96^{\psi t}\right)",
        r"\mu_{t+1} = \beta_{1} \left(1 - 0.5 \cdot 0.96^{\psi \left(t + 1\right)}\right)",
        r"\text{carry}_{t} = \text{carry}_{t-1} \, \mu_{t}",
        r"g_{\text{size},t} = \frac{\eta \sqrt{1 - \beta_{2}^{t}} \left(1 - \mu_{t}\right)}{1 - \text{carry}_{t}}",
    ]
    assert equations(fastoptim.RAdam)[:2] == [
        r"\rho_{\infty} = \frac{2}{1 - \beta_{2}} - 1",
        r"\rho_{t} = \rho_{\infty} - \frac{2 t \beta_{2}^{t}}{1 - \beta_{2}^{t}}",
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
                count = len(cls.carry) if isinstance(cls.carry, tuple) else 0
                opt.carry, opt.carry_before = (carried([x] * count if count else x, cls.carry) for x in (0.3, 0.2))
            for known, t in itertools.product([chosen, everything], [1, 3, 30]):
                read = [ast.unparse(x) for x in scalars(cls, known).returned]
                numbers = [eval(x, vars(math) | {"self": opt, "t": t}) for x in read]
                assert numbers == pytest.approx(opt.scalars(t), rel=1e-14), (opt, read)
