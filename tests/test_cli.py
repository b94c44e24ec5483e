"""The command line: what it prints, its exit codes, and that the demo's network learns with every optimizer."""

import ctypes.util
import importlib.util
import io
import os
import re
import subprocess
import sys

import numba
import numpy as np
import pytest
from matplotlib.image import imread
from rich.console import Console

import fastoptim
from fastoptim import Optimizer, nonnegative, rule
from fastoptim.cli import arguments, main
from fastoptim.cli.network import Network
from fastoptim.cli.plain_numpy import PlainNumpy
from fastoptim.cli.training import LEARNING_RATES, Training, digits, train, with_learning_rate
from support import OPTIMIZERS, ROOT, assert_close, assert_same_bits, random
from variants import switched_off

NAMES = list(arguments.OPTIMIZERS)
EXTRA = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}

# Runs a command as if the demo extra were not installed.
WITHOUT_EXTRA = f"""
import sys
sys.modules.update(dict.fromkeys({list(EXTRA)}))
from fastoptim.cli import main
sys.exit(main(sys.argv[1:]))
"""
# Updates small and large parameters and calls the public kernels: prints how many functions had to be compiled.
FIRST_UPDATES = """
import sys
import numpy as np
import fastoptim
from internals import dispatchers, hits_and_misses

dtype = np.dtype(sys.argv[1])
for size in 3, 40_000:
    opt, params = fastoptim.Adam(), {"p": np.ones(size, dtype)}
    for _ in range(2):
        opt.update(params, {"p": np.ones(size, dtype)})
    for kernel in opt.kernels.cpu, opt.kernels.cpu_serial:
        kernel(params["p"], np.ones(size, dtype), np.zeros((2, size), dtype), opt.scalars(1))
functions = dispatchers(fastoptim.Adam)
print(len(functions), sum(hits_and_misses(*functions)[len(functions) :]))
"""


def run(*command, **environment):
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PYTHONWARNINGS": "error", **environment}
    return subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=240, check=False)


def refused(capsys, *command):
    """The message of a command that argparse refuses."""
    with pytest.raises(SystemExit) as error:
        main(command)
    captured = capsys.readouterr()
    assert error.value.code == 2
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize("command", [[], ["demo"], ["info"], ["warmup"]], ids=str)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as error:
        main([*command, "--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    assert "usage: fastoptim" in text
    if command != ["info"]:
        examples = text.partition("examples:")[2].split("\n")
        assert sum("fastoptim " in line for line in examples) >= 3
    if command in (["demo"], ["warmup"]):
        assert all(name in text for name in NAMES)


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "examples:" in captured.err


def test_module_and_version():
    done = run("-m", "fastoptim", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fastoptim {fastoptim.__version__}\n", "")


def test_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("fastoptim.cli.info.run", interrupted)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_info(capsys, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = dict(re.split("  +", line, maxsplit=1) for line in lines)
    assert rows["fastoptim"] == fastoptim.__version__
    assert rows["NumPy"] == np.__version__
    assert rows["Numba"].startswith(f"{numba.__version__}, llvmlite 0.")
    assert rows["threads"].startswith(f"{numba.config.NUMBA_NUM_THREADS} of ")
    layer, available = re.fullmatch(r"(\w+) \(available: (.+)\)", rows["threading layer"]).groups()
    assert layer == numba.threading_layer()
    assert layer in available.split(", ")
    assert rows["kernel cache"].startswith(f"{fastoptim.SGD.kernels.cpu.stats.cache_path} (")
    assert rows["NUMBA_CACHE_DIR"] == "not set"
    cuda = fastoptim.cuda_info()
    assert (cuda["problem"] or cuda["devices"][0]["name"]) in rows["CUDA"]
    assert len({line.index(value) for line, value in zip(lines, rows.values(), strict=True)}) == 1, "not aligned"


def test_info_without_the_demo_extra_and_in_another_environment(tmp_path):
    done = run("-c", WITHOUT_EXTRA, "info", NUMBA_CACHE_DIR=str(tmp_path), NUMBA_NUM_THREADS="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"^NUMBA_CACHE_DIR +{tmp_path}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^kernel cache +{tmp_path}/\S+ \(0 kernels, 0\.0 MB\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^threads +1 of .*NUMBA_NUM_THREADS = 1\)$", done.stdout, re.MULTILINE)


def test_info_where_the_threading_layer_is_not_there():
    if importlib.util.find_spec("tbb") or ctypes.util.find_library("tbb"):
        pytest.skip("all of numba's threading layers may be here")
    done = run("-m", "fastoptim", "info", NUMBA_THREADING_LAYER="tbb")
    assert done.returncode == 0
    assert re.search(r"^threading layer +none \(available: \w.*\): No threading layer", done.stdout, re.MULTILINE)


def test_warmup_leaves_nothing_to_compile(tmp_path):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
    command = ["-c", WITHOUT_EXTRA, "warmup", "--optimizer", "ADAM", "--dtype", "float32"]
    first = run(*command, **environment)
    assert (first.returncode, first.stderr) == (0, "")
    lines = first.stdout.splitlines()
    assert re.fullmatch(r"\[1/1\] Adam float32 +\d+\.\d s  6 compiled", lines[0])
    assert re.fullmatch(r"6 kernels compiled in \d+\.\d s; the rest were cached already", lines[1])
    assert lines[2].startswith(f"in {tmp_path}")

    second = run(*command, **environment)
    assert second.returncode == 0
    assert re.search(r"^\[1/1\] Adam float32 +\d+\.\d s  nothing compiled$", second.stdout, re.MULTILINE)
    assert re.search(r"^0 kernels compiled in \d+\.\d s; the rest were cached already$", second.stdout, re.MULTILINE)

    used = run("-c", FIRST_UPDATES, "float32", **environment)
    assert used.stdout == "7 0\n", used.stderr  # with the pass for float64, which nobody asked for


@pytest.fixture
def warmed(monkeypatch):
    """The optimizers and dtypes that `warmup` would compile."""
    done = []
    monkeypatch.setattr("fastoptim.cli.warmup.kernels", lambda opt, dtype: done.append((opt, dtype)))
    return done


def test_warmup_takes_every_optimizer_and_dtype(warmed, capsys):
    assert main(["warmup"]) == 0
    assert [(type(opt), dtype) for opt, dtype in warmed] == [
        (cls, dtype) for cls in arguments.OPTIMIZERS.values() for dtype in ("float32", "float64")
    ]
    last = capsys.readouterr().out.splitlines()[-3]
    assert last.startswith(f"[{2 * len(OPTIMIZERS)}/{2 * len(OPTIMIZERS)}] {NAMES[-1]} float64 ")


def test_warmup_leaves_out_optimizers_that_refuse_an_option(warmed, capsys):
    """Unless they are named: they need no kernels that they cannot run."""
    assert main(["warmup", "--options", "clip_norm,ema"]) == 0
    without = [cls.__name__ for cls in OPTIMIZERS if cls.evaluation is not None]
    assert {type(opt).__name__ for opt, _ in warmed} == {*NAMES} - {*without}
    said = capsys.readouterr().err
    assert f"fastoptim warmup: without {', '.join(without)}: ema: expected None" in said
    assert main(["warmup", "--optimizer", without[0], "--options", "ema"]) == 2
    assert "fastoptim warmup: ema: expected None" in capsys.readouterr().err
    assert main(["warmup", "--options", "decoupled,emma"]) == 2


def test_warmup_with_options(warmed, capsys):
    chosen = ["--options", "clip_norm,ema, groups", "--options", "decoupled,eps_in_root,accumulate"]
    assert main(["warmup", "--optimizer", "adam", "--dtype", "float64", *chosen]) == 0
    first, second = (opt for opt, _ in warmed)
    assert None not in (first.clip_norm, first.ema, first.groups)
    assert (first.eps_in_root, first.decoupled, first.weight_decay) == (False, False, 0)
    assert (second.eps_in_root, second.decoupled) == (True, True)
    assert second.weight_decay > 0
    assert second.accumulate > 1
    assert "[1/2] Adam with clip_norm, ema, groups float64 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"), [("clipnorm", "did you mean clip_norm"), ("eps_in_root", "see AdaGrad or Adam")]
)
def test_warmup_with_a_wrong_option(warmed, name, words, capsys):
    assert main(["warmup", "--optimizer", "sgd", "--options", name]) == 2
    captured = capsys.readouterr()
    assert (warmed, captured.out) == ([], "")
    assert f"fastoptim warmup: SGD has no argument '{name}': {words}" in captured.err


@pytest.mark.parametrize("interactive", [False, True])
def test_demo(interactive, tmp_path, monkeypatch, capsys):
    if interactive:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    picture = tmp_path / "out.png"
    options = ["--epochs", "2", "--optimizer", "adam", "--optimizer", "ADAM", "--output", str(picture)]
    assert main(["demo", *options]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", captured.out)
    assert ("1/2 epochs" in text) == ("2/2 epochs" in text) == interactive
    assert ("[1/1] Adam" in text) != interactive
    rows = re.findall(r"^ *(\w+) +([\d.]+)% +([\d.]+) +([\d.]+) +([\d.]+)x *$", text, re.MULTILINE)
    assert [row[0] for row in rows] == ["Adam"]
    accuracy, update, plain, speedup = map(float, rows[0][1:])
    assert 50 < accuracy <= 100
    assert speedup == pytest.approx(plain / update, rel=0.02, abs=0.1)  # of times with two or three digits
    assert f"Loss curves: {picture}" in text
    image = imread(picture)
    assert image.shape[0] > 500
    assert image.shape[1] > 800
    assert image.std() > 0.05, "nothing is drawn"


def test_demo_has_a_dash_where_a_rule_cannot_be_taken_for_arrays():
    from fastoptim.cli.demo import _table

    console = Console(file=io.StringIO(), width=100)
    console.print(_table([Training("Novel", 0.987, [1.0], 12.3, None)], console))
    assert re.search(r"Novel +98\.7% +12\.3 +- +-", console.file.getvalue())


def test_demo_says_when_the_plot_cannot_be_written(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastoptim.cli.demo.save", full)
    assert main(["demo", "--epochs", "1", "--optimizer", "SGD", "--output", str(tmp_path / "x.png")]) == 1
    assert capsys.readouterr().err == f"fastoptim demo: cannot write '{tmp_path}/x.png': No space left on device\n"


@pytest.mark.parametrize("module", EXTRA)
def test_demo_without_its_extra(module, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["demo", "--output", str(tmp_path / "x.png")]) == 2
    captured = capsys.readouterr()
    expected = "fastoptim demo needs the demo extra: pip install 'fastoptim[demo]'"
    assert (captured.out, captured.err) == ("", f"{expected} (missing: {EXTRA[module]})\n")


def test_demo_without_any_extra_in_a_fresh_process(tmp_path):
    done = run("-c", WITHOUT_EXTRA, "demo", "--output", str(tmp_path / "x.png"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("(missing: scikit-learn, matplotlib, rich)\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["demo", "warmup"])
def test_wrong_optimizer(command, capsys):
    message = refused(capsys, command, "--optimizer", "Adma")
    assert f"there is no optimizer 'Adma'; expected one of {', '.join(NAMES)}" in message


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--seed", "-1", "at least 0"),
        ("--seed", str(2**32), "below 4294967296"),
        ("--seed", "one", "got 'one'"),
        ("--epochs", "0", "at least 1"),
        ("--epochs", "2.5", "got '2.5'"),
    ],
)
def test_wrong_number(option, value, expected, capsys):
    assert expected in refused(capsys, "demo", option, value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("there/is/none.png", "there is no folder"),
        ("file.txt/x.png", "there is no folder"),
        ("folder.png", "Is a directory"),
        ("x.pdf", "ends in .png"),
        (f"{'x' * 300}.png", "File name too long"),  # refused by the operating system, whoever the user is
    ],
)
def test_wrong_output(name, expected, tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.txt").touch()
    before = sorted(tmp_path.iterdir())
    assert expected in refused(capsys, "demo", "--output", str(tmp_path / name))
    assert sorted(tmp_path.iterdir()) == before


def test_trying_the_output_leaves_no_trace(tmp_path):
    new, old = tmp_path / "new.png", tmp_path / "old.PNG"
    old.write_bytes(b"before")
    assert [arguments.png(str(path)) for path in (new, old)] == [new, old]
    assert not new.exists()
    assert old.read_bytes() == b"before"


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_plain_numpy_makes_the_same_steps(cls):
    rng = np.random.default_rng(1)
    params = {"W": rng.standard_normal((5, 4)), "b": random(rng, 4, np.float32), "s": rng.standard_normal(())}
    opt, copies = cls(**switched_off(cls)), {name: param.copy() for name, param in params.items()}
    if cls.matrices is not None:
        with pytest.raises(ValueError, match=f"{cls.__name__} updates matrices by a function"):
            PlainNumpy(cls(), copies)
        return
    plain = PlainNumpy(cls(), copies)
    for _ in range(4):
        grads = {key: random(rng, p.shape, p.dtype) for key, p in params.items()}
        plain.update(grads)
        opt.update(params, grads)
    for key, param in params.items():
        if cls.reductions:  # NumPy adds in another order, and what all arrays share is as exact as the least exact
            assert_close(plain.params[key].astype(np.float32 if cls.shared_slots else param.dtype), param, key)
        else:
            assert_same_bits(plain.params[key], param, key)


def test_gradients_are_those_of_the_loss():
    rng = np.random.default_rng(2)
    network = Network((6, 7, 5, 3), rng)
    x, labels = rng.standard_normal((8, 6)).astype(np.float32), rng.integers(0, 3, 8)
    network.loss(x, labels)
    grads = {name: grad.copy() for name, grad in network.grads.items()}
    assert grads.keys() == network.params.keys() == {"W1", "b1", "W2", "b2", "W3", "b3"}
    for name, param in network.params.items():
        length = float(np.linalg.norm(grads[name]))
        step = np.float32(0.005) * grads[name] / np.float32(length)
        before = param.copy()
        losses = []
        for sign in 1, -1:
            param[...] = before + sign * step  # the layer's own array
            losses.append(network.loss(x, labels))
        param[...] = before
        assert (losses[0] - losses[1]) / 0.01 == pytest.approx(length, rel=0.02), name


def test_training_is_reproducible():
    def losses_and_accuracy(split, seed):
        return train(fastoptim.Adam(), digits(split), seed, 2, lambda: None)[1:3]

    first = losses_and_accuracy(3, 3)
    assert losses_and_accuracy(3, 3) == first
    assert losses_and_accuracy(4, 3) != first
    assert losses_and_accuracy(3, 4) != first


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_every_optimizer_reaches_95_percent(cls, seed):
    epochs = []
    data = digits(seed)
    training = train(with_learning_rate(cls, data, seed), data, seed, arguments.EPOCHS, lambda: epochs.append(1))
    assert training.accuracy >= 0.95
    assert len(epochs) == len(training.losses) == arguments.EPOCHS
    assert training.losses[-1] < 0.1 < training.losses[0]


@rule
def lion(p, g, m, lr, one_minus_beta1, one_minus_beta2):
    c = m + one_minus_beta1 * (g - m)
    return p - (lr if c > 0 else -lr if c < 0 else c), m + one_minus_beta2 * (g - m)


class Signs(Optimizer):
    """Needs a learning rate of another size than those of the package, and its default is another one still."""

    rule, slots = lion, ("m",)
    lr: float = nonnegative(1e-4)

    def scalars(self, t):
        return self.lr, 0.1, 0.01


class Fixed(Optimizer):
    """Has no learning rate, and a rule that cannot be taken for arrays."""

    rule = rule(lambda p, g, part: p - part * g)

    def scalars(self, t):
        return (0.1,)


def test_an_optimizer_that_nobody_has_prepared():
    data = digits(0)
    optimizer = with_learning_rate(Signs, data, 0)
    training = train(optimizer, data, 0, arguments.EPOCHS, lambda: None)
    assert optimizer.lr in LEARNING_RATES
    assert training.accuracy >= 0.95
    assert training.plain_us > 0


def test_an_optimizer_without_a_learning_rate():
    data = digits(0)
    training = train(with_learning_rate(Fixed, data, 0), data, 0, 2, lambda: None)
    assert training.losses[1] < training.losses[0]
    assert training.plain_us is None
