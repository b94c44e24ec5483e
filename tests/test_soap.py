"""SOAP's matrices: the formula, bases that cannot be computed, and the state of one side or both."""

import copy
import pickle

import numpy as np
import pytest

import fastoptim
from fastoptim import SOAP
from pair import Pair
from references import EVERYTHING, Reference
from support import DTYPES, assert_close, assert_same_bits, frozen, like, random, snapshot

F4, F8 = np.float32, np.float64
# Square matrices have a first basis that their gradient determines; see `soap` in formulas_matrices.py.
SQUARES = {"W1": (6, 6), "b1": (6,), "W2": (4, 4), "s": (), "one": (1, 1), "conv": (2, 3, 2), "empty": (0, 3)}
OTHERS = {"tall": (7, 4), "wide": (3, 6), "row": (1, 5), "column": (5, 1)}
SLOTS = {"L", "R", "QL", "QR"}


def made(rng, shapes, dtype):
    return {name: random(rng, shape, dtype) for name, shape in shapes.items()}


def check(opt, params, reference):
    """Parameters and state; bases but for the signs of their columns."""
    for name, p in params.items():
        own = {slot: views[name] for slot, views in opt.state.items() if name in views}
        assert_close(p, reference.params[name], name)
        for slot, x in own.items():
            assert x.dtype == p.dtype
            expected = reference.state[name][slot]
            expected = expected * np.sign((x * expected).sum(axis=0)) if slot in ("QL", "QR") else expected
            assert_close(x, expected, f"{slot} {name}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precondition_frequency": 1},
        {"lr": 0.02, "beta1": 0.6, "beta2": 0.7, "shampoo_beta": 0.8, "eps": 0.1, "precondition_frequency": 3},
        {"correct_bias": False, "precondition_frequency": 4},
        {"normalize_gradient": True, "eps": 0.01},
        {"max_precondition_dim": 5, "precondition_frequency": 2},
    ],
    ids=str,
)
def test_formula(options, dtype, rng):
    params = made(rng, SQUARES, dtype)
    opt = SOAP(**options)
    reference = Reference(opt, params)
    for _ in range(25):
        grads = like(rng, params)
        reference.update(grads)
        opt.update(params, grads)
    check(opt, params, reference)
    assert set(opt.state["QL"]) == ({"W1", "W2", "one"} if options.get("max_precondition_dim") != 5 else {"W2", "one"})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limit", [100, 5])
def test_matrices_that_are_not_square(limit, dtype, rng):
    """Their first bases are any eigenvectors of Shampoo's matrices. All else follows from them."""
    params = made(rng, OTHERS, dtype)
    opt = SOAP(precondition_frequency=3, max_precondition_dim=limit)
    reference = Reference(opt, params)
    for step in range(12):
        grads = like(rng, params)
        reference.update(grads)
        opt.update(params, grads)
        for name in params if step == 0 else ():
            own = reference.state[name]
            for axis, A, Q in (0, "L", "QL"), (1, "R", "QR"):
                side = params[name].shape[axis]
                assert (name in opt.state[Q]) == (name in opt.state[A]) == (side <= limit)
                if side <= limit:
                    own[Q] = opt.state[Q][name].astype(F8)
                    assert_close((own[Q].T @ own[Q]).astype(dtype), np.eye(side))
                    values = np.diag(own[Q].T @ own[A] @ own[Q])
                    assert_close((own[Q] * values @ own[Q].T).astype(dtype), own[A])
                    assert (np.diff(values) < 1e-6).all()  # the largest first
    check(opt, params, reference)


def test_everything(rng):
    params = made(rng, {**SQUARES, "never": (2, 2)}, F4)
    pair = Pair(SOAP, params, **EVERYTHING | {"max_precondition_dim": 10, "precondition_frequency": 2})
    for call in range(30):
        grads = like(rng, params) | {"never": None}
        if call < 6:
            grads["W2"] = None
        if call % 7 == 2:
            grads["W1"][2, 3] = np.nan
        pair.update(grads)
        pair.check()
    assert pair.opt.skipped > 2
    check(pair.opt, params, pair.reference)
    assert_close(pair.opt.averages["W1"], pair.reference.ema["W1"])


def test_the_first_step_makes_the_bases_alone(rng):
    params = made(rng, {"W": (4, 3), "b": (3,)}, F4)
    before = copy.deepcopy(params)
    opt = SOAP(weight_decay=0)
    opt.update(params, like(rng, params))
    assert_same_bits(params["W"], before["W"])
    assert (params["b"] != before["b"]).all()
    assert not opt.state["m"]["W"].any()
    assert opt.state["QL"]["W"].any()


def test_zero_gradients(rng):
    """The first of all, those of some rows, and all."""
    params = made(rng, {"W": (5, 4), "dead": (6, 6), "all": (3, 3)}, F4)
    before = copy.deepcopy(params)
    opt = SOAP(weight_decay=0, precondition_frequency=2)
    for step in range(12):
        grads = like(rng, params)
        if step == 0:
            grads["W"][...] = 0
        grads["dead"][[1, 4]] = 0
        grads["all"][...] = 0
        opt.update(params, grads)
    assert all(np.isfinite(x).all() for views in opt.state.values() for x in views.values())
    assert_same_bits(params["all"], before["all"])
    assert (params["W"] != before["W"]).all()
    assert (params["dead"][[0, 2, 3, 5]] != before["dead"][[0, 2, 3, 5]]).all()
    for name in params:
        for slot in "QL", "QR":
            Q = opt.state[slot][name]
            assert_close(Q.T @ Q, np.eye(len(Q), dtype=F4))


@pytest.mark.parametrize("at", [0, 1, 4])
def test_nan_leaves_the_bases_as_they_are(at, rng):
    params = made(rng, {"W": (4, 4), "other": (3, 3)}, F4)
    twin = {"other": params["other"].copy()}
    opt, alone = SOAP(precondition_frequency=2), SOAP(precondition_frequency=2)
    for step in range(8):
        grads = like(rng, params)
        if step == at:
            grads["W"][1, 2] = np.nan
            bases = {slot: opt.state[slot].get("W", np.zeros((4, 4), F4)).copy() for slot in ("QL", "QR")}
        opt.update(params, grads)
        alone.update(twin, {"other": grads["other"]})
    for slot, basis in bases.items():
        assert_same_bits(opt.state[slot]["W"], basis)
    assert np.isnan(params["W"]).all() == (at > 0)  # the first gradient is for the bases, without which Adam goes on
    assert_same_bits(params["other"], twin["other"])


@pytest.mark.parametrize("failing", ["eigh", "qr"])
def test_a_basis_that_cannot_be_computed(failing, rng, monkeypatch):
    """The step is made in the basis that there is; until there is one, without."""
    params = made(rng, {"W": (4, 4), "b": (3,)}, F4)
    opt = SOAP(precondition_frequency=1, weight_decay=0)
    steps = [like(rng, params) for _ in range(4)]
    for grads in steps[: 0 if failing == "eigh" else 2]:
        opt.update(params, grads)
    before, basis = params["W"].copy(), opt.state["QL"]["W"].copy() if failing == "qr" else np.zeros((4, 4), F4)

    def fails(A):
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    with monkeypatch.context() as patch:
        patch.setattr(np.linalg, failing, fails)
        for grads in steps[2:]:
            opt.update(params, grads)
    assert_same_bits(opt.state["QL"]["W"], basis)
    assert (params["W"] != before).all()
    assert opt.iter == (2 if failing == "eigh" else 4)
    opt.update(params, steps[0])
    assert (opt.state["QL"]["W"] != basis).any()


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: a[::-1].copy()[::-1]])
def test_layouts_have_the_same_bits(layout, rng):
    plain = made(rng, {"W": (5, 8), "b": (3,)}, F4)
    other = {name: layout(p) for name, p in plain.items()}
    one, two = SOAP(precondition_frequency=2), SOAP(precondition_frequency=2)
    for _ in range(7):
        grads = like(rng, plain)
        one.update(plain, grads)
        two.update(other, {name: layout(g) for name, g in grads.items()})
    for name in plain:
        assert_same_bits(np.ascontiguousarray(other[name]), plain[name])


def by_state_dict(opt, params, path):
    twin = SOAP()
    twin.load_state_dict(copy.deepcopy(opt.state_dict()))
    return twin


def by_pickle(opt, params, path):
    return pickle.loads(pickle.dumps(opt))


def by_file(opt, params, path):
    fastoptim.save(path, params, opt)
    twin = SOAP()
    fastoptim.load(path).restore({name: np.zeros_like(p) for name, p in params.items()}, twin)
    return twin


@pytest.mark.parametrize("calls", [1, 4, 6, 7])
@pytest.mark.parametrize("way", [by_state_dict, by_pickle, by_file])
def test_going_on_in_the_middle_of_an_interval(way, calls, rng, tmp_path):
    params = made(rng, {**OTHERS, "b": (3,), "long": (2, 9)}, F4)
    opt = SOAP(precondition_frequency=5, max_precondition_dim=8)
    steps = [like(rng, params) for _ in range(14)]
    for grads in steps[:calls]:
        opt.update(params, grads)
    twin = way(opt, params, tmp_path / "file")
    copies = copy.deepcopy(params)
    for grads in steps[calls:]:
        opt.update(params, grads)
        twin.update(copies, grads)
    assert frozen(copies) == frozen(params)
    assert snapshot(twin, copies) == snapshot(opt, params)


def test_memory(rng):
    params = made(rng, {**SQUARES, **OTHERS}, F4)
    for options in {}, {"max_precondition_dim": 4}, {"groups": {"W*": {"max_precondition_dim": 1}}}:
        opt = SOAP(**options)
        said = opt.memory(params)
        opt.update(params, like(rng, params))
        assert said.state == sum(x.nbytes for views in opt.state.values() for x in views.values())


def test_a_group_without_bases(rng):
    """Its matrices follow Adam, from their second step on."""
    params = made(rng, {"W": (4, 4), "embedding": (4, 4)}, F8)
    groups = {"emb*": {"max_precondition_dim": 3}}
    pair = Pair(SOAP, params, groups=groups, max_precondition_dim=10, precondition_frequency=2)
    for _ in range(6):
        pair.update(like(rng, params))
    check(pair.opt, params, pair.reference)
    assert all(set(pair.opt.state[slot]) == {"W"} for slot in SLOTS)


@pytest.mark.parametrize(
    "change", [{"max_precondition_dim": 3}, {"groups": {"W": {"max_precondition_dim": 3}}}], ids=str
)
def test_a_matrix_keeps_its_sides(change, rng):
    params = made(rng, {"W": (4, 3), "b": (3,)}, F4)
    opt = SOAP()
    opt.update(params, like(rng, params))
    name, value = next(iter(change.items()))
    old = getattr(opt, name)
    setattr(opt, name, value)
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"params\['W'\]: its state has an? L, which its step now does not take"):
        opt.update(params, like(rng, params))
    assert snapshot(opt, params) == before
    setattr(opt, name, old)
    opt.update(params, like(rng, params))
    assert opt.iter == 2


def test_without_bases_it_is_adam_one_step_late(rng):
    W, b = np.ones((3, 2)), np.ones(6)
    soap = SOAP(0.01, 0.9, 0.99, eps=0.1, max_precondition_dim=1, weight_decay=0)
    adam = fastoptim.Adam(0.01, 0.9, 0.99, eps=0.1)
    for step in range(5):
        g = random(rng, (3, 2), F8)
        soap.update({"W": W}, {"W": g})
        adam.update({"b": b}, {"b": g.ravel() if step else None})
    assert_close(W.ravel(), b)
