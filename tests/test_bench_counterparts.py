"""What the benchmarks compare with: found by docs/equivalents.toml, with our optimizer's hyperparameters."""

from types import SimpleNamespace

import pytest

import fastoptim
from bench import counterparts
from bench.counterparts import Counterpart, counterpart, find
from bench.recipes import EACH, Recipe
from fastoptim import schedules
from fastoptim.kernels.traffic import Used
from support import OPTIMIZERS


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_every_row_with_names_is_found(cls):
    """An optimizer of the class, with its defaults or as the row has it, has the row's libraries."""
    table = counterparts._table()
    rows = [row for row in table["row"] if row["ours"].startswith(f"{cls.__name__}(")]
    for row in rows:
        ours = eval(row["ours"], vars(fastoptim) | table["numbers"])
        for library in {"torch", "optax"} & row.keys():
            assert find(ours, library) is not None
    assert EACH[cls.__name__.lower()].what == cls.__name__


@pytest.mark.parametrize(("ours", "text"), [
    (fastoptim.SGD(lr=0.3), "SGD(params, lr)"),
    (fastoptim.Momentum(), "SGD(params, lr, momentum)"),
    (fastoptim.Adam(eps_hat=False), "Adam(params, lr, (beta1, beta2), eps)"),
    (fastoptim.Adam(), "Adam(params, lr, (beta1, beta2), eps)"),  # where eps is added takes no time
    (fastoptim.Adam(eps_hat=False, weight_decay=0.1), "Adam(params, lr, (beta1, beta2), eps, weight_decay)"),
    (fastoptim.Adam(weight_decay=0.1, decoupled=True), "AdamW(params, lr, (beta1, beta2), eps, weight_decay)"),
    (fastoptim.Adam(lr=schedules.linear(1, 0, steps=3), clip_norm=1, ema=0.9, groups={"b": {"lr": 2}}),
     "Adam(params, lr, (beta1, beta2), eps)"),
    (fastoptim.Adam(maximize=True), None),
    (fastoptim.Momentum(weight_decay=0.1), None),
    (fastoptim.Lion(), None),
])  # fmt: skip
def test_the_row_is_that_of_its_hyperparameters(ours, text):
    found = find(ours, "torch")
    assert (found and found.text) == text


def test_the_row_that_is_the_same_comes_first():
    assert find(fastoptim.Adam(eps_hat=False, eps_in_root=True), "optax").text.endswith("eps=0, eps_root=eps)")
    assert find(fastoptim.Adam(eps_hat=False), "optax").text == "adam(lr, beta1, beta2, eps)"


def test_a_state_of_another_size_is_no_form_of_the_same(monkeypatch):
    slots = property(lambda self: ("h", "r") if vars(self).get("eps_in_root") else ("h",))
    monkeypatch.setattr(fastoptim.AdaGrad, "slots", slots)
    assert find(fastoptim.AdaGrad(), "optax") is None
    assert find(fastoptim.AdaGrad(eps_in_root=True), "optax") is not None


def test_what_is_in_a_module_of_a_library():
    optax = pytest.importorskip("optax", reason="looks into Optax, which is not installed")
    theirs = find(fastoptim.ADOPT(), "optax")
    assert theirs.text.startswith("contrib.adopt(")
    assert theirs.called is optax.contrib.adopt
    assert theirs.make().update


def test_what_is_missing_is_named():
    with pytest.raises(LookupError, match=r"equivalents.toml: expected a row for Lion\(.*'torch', found none"):
        counterpart(fastoptim.Lion(), "torch")


def test_a_text_is_evaluated_with_names_and_further_arguments(monkeypatch):
    def peer(params, lr, betas, fused=False):
        return params, lr, betas, fused

    monkeypatch.setattr(Counterpart, "module", SimpleNamespace(Peer=peer))
    theirs = Counterpart("peer", "Peer(params, lr, betas=(beta1, 0.5))", {"lr": 3, "beta1": 0.25})
    assert theirs.make([1]) == ([1], 3, (0.25, 0.5), False)
    assert theirs.make([1], fused=True) == ([1], 3, (0.25, 0.5), True)
    assert theirs.takes("fused")
    assert not theirs.takes("foreach")


def test_traffic():
    traffic = {cls.__name__: EACH[cls.__name__.lower()].traffic for cls in OPTIMIZERS}
    assert (traffic["SGD"], traffic["Adam"]) == ((1, 1), (3, 1))
    assert traffic["Adam"].bytes == 28
    assert Recipe("", lambda: fastoptim.Adam(ema=0.9, clip_norm=1.0)).traffic == (4, 2)


def test_traffic_of_several_stages(monkeypatch):
    """The first stage updates the state, and the second one the parameter, which it has to read once more."""
    used = Used(("p", "g", "m", "v"), ("m", "v")), Used(("p", "m", "v"), ("p",))
    stages = [SimpleNamespace(used=each) for each in used]
    monkeypatch.setattr(fastoptim.Adam, "stages", stages)
    assert Recipe("", fastoptim.Adam).traffic == (3, 4)
    assert Recipe("", fastoptim.Adam).traffic.bytes == (7 + 3) * 4
