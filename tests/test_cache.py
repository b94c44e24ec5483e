"""Kernels come from numba's cache in a new process, and an edited rule does not."""

import textwrap
from concurrent.futures import ThreadPoolExecutor

from support import OPTIMIZERS, python

TRAIN = """
import sys
import numpy as np
import fastoptim
from internals import argument_guard, bound_step, fused_of, hits_and_misses, never_go_on_alone
from internals import passes_of_sums, update_pass
never_go_on_alone()
for name in sys.argv[1:]:
    cls = getattr(fastoptim, name)
    params = {"a": np.ones(70_000, np.float32), "b": np.ones(3)}
    opt = cls()
    opt.update(params, {k: v.copy() for k, v in params.items()})
    bound = bound_step(opt)
    opt.update(params, {k: v.copy() for k, v in params.items()})
    fused = fused_of(opt)
    functions = [*passes_of_sums(cls, fused=fused), update_pass(cls, fused=fused), argument_guard()]
    if cls.kernels.are_public:
        scalars = next(opt.successive_scalars())
        cls.kernels.cpu(params["b"], params["b"].copy(), np.zeros((len(cls.slots), 3)), scalars)
        functions.append(cls.kernels.cpu)
    counts = hits_and_misses(*functions)
    print(set(counts[: len(functions)]) == {1} and not any(counts[len(functions) :]))
    print(bound is not None and bound_step(opt) is bound)
"""


def test_a_second_process_compiles_nothing():
    names = [cls.__name__ for cls in OPTIMIZERS]
    python(TRAIN, *names, NUMBA_NUM_THREADS="2")
    lines = python(TRAIN, *names, NUMBA_NUM_THREADS="2").splitlines()
    assert lines[::2] == ["True"] * len(names)
    # addresses of the first process must not have been kept in the second one's code
    assert lines[1::2] == ["True"] * len(names)


FAR = """
from numba.extending import register_jitable
@register_jitable
def same(x):
    return x{far}
"""
RULES = """
import far
import numpy as np
from fastoptim import Optimizer, nonnegative, rule
FACTOR = {factor}
def helper(x):
    return x{helper}
from numba.extending import register_jitable
helper = register_jitable(helper)
@rule
def mine(p, g, lr, two, factor):
    return p - lr * g{edit} * helper(far.same(two))
class Mine(Optimizer):
    rule = mine
    lr: float = nonnegative(1.0)
    def scalars(self, t):
        return self.lr, 2, FACTOR
"""
USE = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from internals import hits_and_misses, update_pass
from rules import Mine
p = np.zeros(5, np.float32)
Mine().update({"p": p}, {"p": np.ones(5, np.float32)})
print(p[0], hits_and_misses(update_pass(Mine))[0])
"""


def test_an_edited_rule_is_compiled_again(tmp_path):
    (tmp_path / "cache").mkdir()

    def run(**edits):
        edits = {"factor": 1.0, "helper": "", "edit": "", "far": "", **edits}
        (tmp_path / "far.py").write_text(FAR.format(**edits))
        text = RULES.format(**edits)
        (tmp_path / "rules.py").write_text(textwrap.dedent(text))
        # a stale .pyc would be Python's error, not ours: files of equal size written within one second
        return python(USE, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"), PYTHONDONTWRITEBYTECODE="1").split()

    assert run() == ["-2.0", "0"]
    assert run() == ["-2.0", "1"]
    assert run(edit=" * two") == ["-4.0", "0"]  # the rule
    assert run(helper=" + x") == ["-4.0", "0"]  # what it calls
    assert run(far=" + x") == ["-4.0", "0"]  # what it calls in another module
    assert run() == ["-2.0", "1"]  # and back


def test_two_rules_of_one_name_do_not_share_an_entry(tmp_path):
    for sign, folder in ("+", "one"), ("-", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "far.py").write_text(FAR.format(far=""))
        (tmp_path / folder / "rules.py").write_text(RULES.format(factor=1.0, helper="", edit=f" {sign} p * two"))
    first = python(USE, tmp_path / "one", NUMBA_CACHE_DIR=str(tmp_path))
    second = python(USE, tmp_path / "two", NUMBA_CACHE_DIR=str(tmp_path))
    assert first.split()[1] == second.split()[1] == "0"


def test_importing_compiles_nothing_and_imports_little():
    code = "import sys, {}; print(*{{name.split('.')[0] for name in sys.modules}} - sys.stdlib_module_names)"
    ours, numbas = (set(python(code.format(name)).split()) for name in ("fastoptim", "numba, numba.extending"))
    assert ours - numbas == {"fastoptim"}


def test_where_nothing_can_be_written_kernels_are_compiled_without_a_cache(tmp_path):
    code = """
import sys
import numba.core.caching
numba.core.caching.CacheImpl._locator_classes = []  # as if no folder could be written
import numpy as np
import fastoptim
p = np.ones(3, np.float32)
fastoptim.SGD(lr=1).update({"p": p}, {"p": p.copy()})
print(p, fastoptim.SGD.kernels.cpu.stats.cache_path)
"""
    assert python(code) == "[0. 0. 0.] None\n"


def test_files_cut_short_are_compiled_again(tmp_path):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    code = """
import numpy as np
import fastoptim
from internals import hits_and_misses, update_pass
p = np.ones(3, np.float32)
fastoptim.SGD(lr=1).update({"p": p}, {"p": p.copy()})
print(p, hits_and_misses(update_pass(fastoptim.SGD))[0])
"""
    for hits in "0", "1":
        assert python(code, **environment) == f"[0. 0. 0.] {hits}\n"
    files = list(tmp_path.rglob("*.nbc"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    for hits in "0", "1":
        assert python(code, **environment) == f"[0. 0. 0.] {hits}\n"


TRAIN_EACH = """
import hashlib, sys
import numpy as np
import fastoptim
for name in sys.argv[1:]:
    for dtype in np.float32, np.float64:
        for size in 1000, 70_000:
            p = np.linspace(-1, 1, size, dtype=dtype)
            opt = getattr(fastoptim, name)()
            for _ in range(3):
                opt.update({"p": p}, {"p": p * p})
            print(name, dtype.__name__, size, hashlib.sha256(p.tobytes()).hexdigest())
"""


def test_kernels_that_different_processes_compiled_do_not_mix_up(tmp_path):
    """Each process compiles one optimizer, at the same time; then one process loads them all.

    Two of them have state and numbers of the same types, so that nothing but their content tells their code apart.
    """
    names = ["Momentum", "Nesterov", "SGD"]
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
    with ThreadPoolExecutor(2) as pool:
        alone = list(pool.map(lambda name: python(TRAIN_EACH, name, **environment), names))
    assert python(TRAIN_EACH, *names, **environment) == "".join(alone)
    assert len({line.split()[-1] for text in alone for line in text.splitlines()}) == 4 * len(names)
