"""What type checkers say of code that uses this: its errors are found, and the README's own rule passes."""

import re
import subprocess
import sys

import pytest

from support import ROOT

RIGHT = '''
"""The README's rule, and how optimizers are used."""
from collections.abc import Callable

import numpy as np

import fastoptim
from fastoptim import Adam, Number, Optimizer, fraction, nonnegative, rule, schedules, switch


@rule
def lion(
    p: float, g: float, m: float, lr: float, one_minus_beta1: float, one_minus_beta2: float
) -> tuple[float, float]:
    c = m + one_minus_beta1 * (g - m)
    sign = 1 if c > 0 else -1 if c < 0 else c
    return p - lr * sign, m + one_minus_beta2 * (g - m)


class MyLion(Optimizer):
    rule, slots = lion, ("m",)
    lr: Number = nonnegative(1e-4)
    beta1: Number = fraction(0.9)
    beta2: Number = fraction(0.99)
    loud: bool = switch(False)

    def scalars(self, t: int) -> tuple[float, ...]:
        return self.lr, 1 - self.beta1, 1 - self.beta2


class Carrying(MyLion):
    carry = 1.0

    def next_carry(self, t: int) -> float | None:
        assert self.carry is not None
        return self.carry * self.beta1


opt = MyLion(weight_decay=0.1, decoupled=True, ema=0.9, clip_norm=1.0)
opt.lr = 0.5
opt.lr = schedules.cosine(1e-3, steps=1000)
opt.weight_decay = schedules.linear(0.1, 0.0, steps=10)
by_hand: Callable[[int], float] = lambda step: 0.1 / (1 + step)
opt.lr = by_hand
opt.groups = {"b*": {"lr": 0.1}}
opt.bounds = [0.0, 1]
opt.bounds = None
opt.frozen = "embed*"
opt.frozen = ["a", "b"]
patterns: tuple[str, ...] = opt.frozen
twice: float = 2 * opt.lr
average: float | None = opt.ema
norm: float | None = opt.grad_norm
params = {"W": np.zeros((3, 4), np.float32)}
opt.update(params, {"W": np.ones((3, 4), np.float32)})
with opt.averaged(params):
    pass
found: fastoptim.FlatDict | None = opt.averages
steps: int = opt.iter
other = fastoptim.Adam(0.1, beta1=0.8, eps=1e-8, eps_hat=False, accumulate=2)
more = fastoptim.Adam(cautious=True, bounds=(0, None), nonnegative=True, frozen=("a*", "b"))
flat = fastoptim.flatten(params)
opt.update(flat, flat.zeros_like())
fastoptim.save("file", params, opt)
fastoptim.load("file").restore(params, opt)
'''

WRONG = """
import fastoptim
from fastoptim import Adam

fastoptim.AdamX(0.1)
fastoptim.sheduls
opt = Adam()
opt.lr = "much"
Adam(learning_rate=0.1)
Adam(beta1="0.9")
Adam(0.1, 0.9, 0.999, 1e-8, True, 0.1)
Adam(clip_norm="1")
opt.iter = 3
opt.accumulate = 1.5
opt.bounds = 3
Adam(frozen=3)
x: str = opt.lr
"""


def mypy(code, folder, *options):
    """The lines that mypy finds errors in, and all that it says."""
    pytest.importorskip("mypy", reason="asks mypy, which is not installed")
    file = folder / "program.py"
    file.write_text(code)
    # what is imported is as silent as what is installed
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--follow-imports=silent", *options]
    command += ["--cache-dir", folder.parent / "cache"]  # for all tests: most of it is of the package
    done = subprocess.run(
        [*map(str, command), str(file)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    said = done.stdout + done.stderr
    found = {int(n) for n in re.findall(r"program\.py:(\d+): error", said)}
    assert bool(found) == bool(done.returncode), said
    return found, said


def test_right_code_passes(tmp_path):
    found, said = mypy(RIGHT, tmp_path)
    assert not found, said


def test_each_error_is_found(tmp_path):
    lines = WRONG.splitlines()
    found, said = mypy(WRONG, tmp_path)
    right = "", "import fastoptim", "from fastoptim import Adam", "opt = Adam()"
    expected = {number for number, line in enumerate(lines, 1) if line not in right}
    missed = {lines[number - 1] for number in expected - found}
    assert not missed, f"{missed}\n{said}"
    assert found == expected, said


def test_attributes_that_are_not_there_are_found(tmp_path):
    code = "import fastoptim\nopt = fastoptim.Adam()\nopt.learning_rate = 0.1\nopt.updat({}, {})\nprint(opt.nothing)\n"
    found, said = mypy(code, tmp_path)
    assert found == {3, 4, 5}, said


def test_the_first_argument_is_the_first_hyperparameter(tmp_path):
    code = "from fastoptim import Adam, schedules\nAdam(schedules.exponential(0.1, 0.5), 0.9)\nAdam(None)\n"
    code += "Adam(carry=1.0)\n"
    found, said = mypy(code, tmp_path)
    assert found == {3, 4}, said


def test_the_names_of_the_module_are_known(tmp_path):
    import fastoptim

    code = "import fastoptim\n" + "".join(f"fastoptim.{name}\n" for name in fastoptim.__all__)
    found, said = mypy(code, tmp_path)
    assert not found, said
