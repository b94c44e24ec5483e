"""Gradients of some rows: each row is updated as a parameter of its own would be, and costs what it costs."""

import copy
import gc
import pickle
import weakref

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastoptim
from fastoptim import SGD, AdaGrad, Adam, AdamW, Momentum, Muon, NAdam, Nesterov, RMSprop, Rows, schedules
from fastoptim.kernels.row_order import sort_by_index
from references import Reference
from rounding_in_numpy import BFLOAT16
from support import DTYPES, FEW, LAYOUTS, ON_GPU, SUMMED, assert_close, assert_same_bits, snapshot
from variants import accepted

ELEMENTWISE = [cls for cls in ON_GPU if cls not in SUMMED]
COUNT, SHAPE = 23, (23, 5)


def summed(indices, values, row):
    """The sum of a row's gradients, in the order in which they appear."""
    total = None
    for own in values[np.asarray(indices) == row]:
        total = own.copy() if total is None else total + own
    return total


class ByRow:
    """An optimizer for each row, with dense gradients."""

    def __init__(self, make, param):
        self.param, self._opts = param, [make() for _ in param]

    def update(self, gradient):
        values = gradient.values.astype(np.result_type(self.param.dtype, np.float32))
        for row in np.unique(gradient.indices):
            own = {"p": self.param[row : row + 1]}
            self._opts[row].update(own, {"p": summed(gradient.indices, values, row)[None]})

    def state(self, slot, row):
        return self._opts[row].state[slot].get("p")

    def averages(self, row):
        return self._opts[row].averages.get("p")


def random_rows(rng, count=40, dtype=np.float32, rows=COUNT, shape=SHAPE[1:]):
    return Rows(rng.integers(0, rows, count), rng.standard_normal((count, *shape)).astype(dtype))


def assert_as_by_row(opt, expected, param):
    assert_same_bits(param, expected.param)
    for row in range(len(param)):
        for slot, own in opt.state.items():
            state = expected.state(slot, row)
            assert_same_bits(own["E"][row : row + 1], np.zeros_like(own["E"][:1]) if state is None else state, slot)


OPTIONS = [
    {},
    {"weight_decay": 0.1, "clip_value": 0.5, "maximize": True, "grad_scale": 4.0},
    {"weight_decay": 0.1, "decoupled": True, "cautious": True},
    {"bounds": (-1.0, 1.5), "ema": 0.75},
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", ELEMENTWISE)
def test_a_row_is_updated_like_a_parameter_of_its_own(cls, dtype, rng):
    param = rng.standard_normal(SHAPE).astype(dtype)
    opt, expected = cls(lr=0.05), ByRow(lambda: cls(lr=0.05), param.copy())
    for _ in range(5):
        gradient = random_rows(rng, 12, dtype)
        opt.update({"E": param}, {"E": gradient})
        expected.update(gradient)
    assert_as_by_row(opt, expected, param)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cls", [*FEW, AdamW])
def test_with_options(cls, options, rng):
    param = rng.standard_normal(SHAPE).astype(np.float32)
    options = accepted(cls, options)
    opt, expected = cls(lr=0.05, **options), ByRow(lambda: cls(lr=0.05, **options), param.copy())
    for _ in range(4):
        gradient = random_rows(rng)
        opt.update({"E": param}, {"E": gradient})
        expected.update(gradient)
    assert_as_by_row(opt, expected, param)
    if "ema" in options:
        rows = [row for row in range(COUNT) if expected.averages(row) is not None]
        for row in rows:
            assert_same_bits(opt.averages["E"][row : row + 1], expected.averages(row))


TOGETHER = {"clip_norm": 2.0, "weight_decay": 0.1, "ema": 0.75, "grad_scale": 2.0}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cls", "options"), [*((cls, {}) for cls in ELEMENTWISE), *((cls, TOGETHER) for cls in FEW)])
def test_against_the_formulas_in_float64(cls, dtype, options, rng):
    """Each row is a name of the reference. Those that a call leaves out have no gradient there."""
    param, options = rng.standard_normal(SHAPE).astype(dtype), accepted(cls, options)
    opt = cls(lr=0.05, **options)
    reference = Reference(opt, dict(enumerate(param)), options)
    for _ in range(5):
        gradient = random_rows(rng, 12, dtype)
        opt.update({"E": param}, {"E": gradient})
        sums = {row: gradient.values[gradient.indices == row].sum(axis=0) for row in set(gradient.indices.tolist())}
        reference.update({row: sums.get(row) for row in range(COUNT)})
    assert_close(param, np.stack([reference.params[row] for row in range(COUNT)]))
    for slot, own in opt.state.items():
        assert_close(own["E"], np.stack([reference.state[row][slot] for row in range(COUNT)]), slot)
    for row, average in reference.ema.items():
        assert_close(opt.averages["E"][row], average)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_indices_and_any_order(data):
    """Duplicates, empty batches, dense gradients in between: every row has its own count."""
    seed = data.draw(st.integers(0, 2**32))
    rng, param = np.random.default_rng(seed), np.random.default_rng(seed).standard_normal((9, 3)).astype(np.float32)
    opt, expected = Adam(lr=0.1), ByRow(lambda: Adam(lr=0.1), param.copy())
    for _ in range(data.draw(st.integers(1, 5))):
        indices = data.draw(st.lists(st.integers(0, 8), max_size=20))
        if data.draw(st.booleans()):
            indices = list(range(9))
        gradient = Rows(np.array(indices, np.int16), rng.standard_normal((len(indices), 3)).astype(np.float32))
        is_dense = len(indices) == 9 and indices == list(range(9)) and data.draw(st.booleans())
        opt.update({"E": param}, {"E": gradient.values if is_dense else gradient})
        expected.update(gradient)
    assert_as_by_row(opt, expected, param)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2**40), st.integers(0, 5000), st.integers(0, 2**32), st.booleans())
def test_sorting(rows, count, seed, is_sorted):
    indices = np.random.default_rng(seed).integers(0, rows, count)
    indices = np.sort(indices) if is_sorted else indices
    order, spare = np.empty((2, count), np.int64)
    assert sort_by_index(indices, rows, order, spare)
    np.testing.assert_array_equal(order, np.argsort(indices, kind="stable"))
    if count:
        indices[count // 2] = rows
        assert not sort_by_index(indices, rows, order, spare)
        indices[count // 2] = -1
        assert not sort_by_index(indices, rows, order, spare)


@pytest.mark.parametrize("count", [300, 30_000])
def test_the_same_bits_on_any_number_of_threads(count, rng, threads):
    first, found = rng.standard_normal((2000, 40)).astype(np.float32), []
    gradients = [random_rows(rng, count, rows=2000, shape=(40,)) for _ in range(3)]
    for number in 1, 2, 3:
        threads(min(number, numba.config.NUMBA_NUM_THREADS))
        params, opt = {"E": first.copy()}, Adam(lr=0.1, clip_norm=1.0)
        for gradient in gradients:
            opt.update(params, {"E": gradient})
        found.append((params["E"], opt.grad_norm))
    for param, norm in found:
        assert_same_bits(param, found[0][0])
        assert norm == found[0][1]


def test_dense_parameters_beside_it(rng):
    """And two with rows, of which one comes later."""
    params = {"W": rng.standard_normal((4, 3)), "E": rng.standard_normal(SHAPE), "F": rng.standard_normal((9,))}
    params = {name: p.astype(np.float32) for name, p in params.items()}
    dense, opt = {"W": params["W"].copy()}, Momentum(lr=0.1, groups={"F": {"lr": 0.5}})
    rows = {
        "E": ByRow(lambda: Momentum(lr=0.1), params["E"].copy()),
        "F": ByRow(lambda: Momentum(lr=0.5), params["F"].copy()),
    }
    plain = Momentum(lr=0.1)
    for step in range(4):
        grads = {"W": rng.standard_normal((4, 3)).astype(np.float32), "E": random_rows(rng, 6), "F": None}
        if step > 0:
            grads["F"] = random_rows(rng, 5, rows=9, shape=())
            rows["F"].update(grads["F"])
        opt.update(params, grads)
        plain.update(dense, {"W": grads["W"]})
        rows["E"].update(grads["E"])
    assert_same_bits(params["W"], dense["W"])
    for name, own in rows.items():
        assert_same_bits(params[name], own.param, name)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float64])
def test_values_of_another_dtype(dtype, rng):
    param = rng.standard_normal(SHAPE).astype(np.float32)
    other, one, two = param.copy(), Adam(lr=0.1), Adam(lr=0.1)
    for _ in range(3):
        gradient = random_rows(rng, 12, dtype)
        one.update({"E": param}, {"E": gradient})
        two.update({"E": other}, {"E": Rows(gradient.indices, gradient.values.astype(np.float32))})
    assert_same_bits(param, other)


@pytest.mark.parametrize("options", [{}, {"master": "float32"}, {"rounding": "kahan"}, {"state_dtype": "bfloat16"}])
def test_parameters_of_16_bits(options, rng):
    param = rng.standard_normal(SHAPE).astype(BFLOAT16)
    opt, expected = Adam(lr=0.05, **options), ByRow(lambda: Adam(lr=0.05, **options), param.copy())
    for _ in range(4):
        gradient = random_rows(rng, 12, BFLOAT16)
        opt.update({"E": param}, {"E": gradient})
        expected.update(gradient)
    assert_same_bits(param, expected.param)


def test_a_shadow(rng):
    param = rng.standard_normal(SHAPE).astype(np.float32)
    shadow, opt = {"E": param.astype(BFLOAT16)}, Adam(lr=0.1)
    for _ in range(3):
        opt.update({"E": param}, {"E": random_rows(rng, 12)}, shadow=shadow)
    assert_same_bits(shadow["E"], param.astype(BFLOAT16))


def test_shadows_in_turn(rng, monkeypatch):
    """They change after the rows were found. A step that knows the arrays takes them all the same."""
    param = rng.standard_normal(SHAPE).astype(np.float32)
    shadows, opt, expected = [np.zeros(SHAPE, BFLOAT16) for _ in range(2)], Adam(lr=0.1), []
    for call in range(6):
        if call == 2:
            monkeypatch.setattr("fastoptim.step.bind.Binder._bound", None)
        gradient = random_rows(rng, 12)
        opt.update({"E": param}, {"E": gradient}, shadow={"E": shadows[call % 2]})
        expected.append((gradient.indices, param.astype(BFLOAT16)))
        assert_same_bits(shadows[call % 2][gradient.indices], expected[-1][1][gradient.indices])
    assert (shadows[0] != shadows[1]).any()


def test_the_norm_is_that_of_the_summed_rows(rng):
    params = {"E": rng.standard_normal(SHAPE), "W": rng.standard_normal((3, 3))}
    opt, plain, others = SGD(lr=1.0, clip_norm=0.5), SGD(lr=1.0, clip_norm=0.5), copy.deepcopy(params)
    for _ in range(3):
        gradient, dense = random_rows(rng, dtype=np.float64), rng.standard_normal((3, 3))
        opt.update(params, {"E": gradient, "W": dense})
        plain.update(others, {"E": gradient.to_dense(COUNT), "W": dense})
        assert opt.grad_norm == pytest.approx(plain.grad_norm, rel=1e-12)
    for name, p in params.items():
        assert_close(p, others[name], name)


def test_what_is_not_finite_is_skipped(rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Adam(skip_nonfinite=True, zero_grads=True)
    opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    gradient, before = random_rows(rng, dtype=np.float64), copy.deepcopy((params, opt.state_dict()))
    gradient.values[3, 2] = np.inf
    opt.update(params, {"E": gradient})
    assert (opt.skipped, opt.iter) == (1, 1)
    assert not gradient.values.any()
    assert_same_bits(params["E"], before[0]["E"])
    assert_same_bits(opt.state["v"]["E"], before[1]["slots"]["v"]["E"])
    assert_same_bits(opt.state_dict()["row_steps"]["E"], before[1]["row_steps"]["E"])


def test_gradients_are_set_to_zero(rng):
    params, gradient = {"E": rng.standard_normal(SHAPE).astype(np.float32)}, random_rows(rng)
    other, same = {"E": params["E"].copy()}, copy.deepcopy(gradient)
    Adam(zero_grads=True).update(params, {"E": gradient})
    Adam().update(other, {"E": same})
    assert not gradient.values.any()
    assert same.values.any()
    assert_same_bits(params["E"], other["E"])


def test_schedules_follow_the_steps_of_the_name(rng):
    """And the corrections of Adam's bias those of the row."""
    lr = schedules.linear(0.1, 0.0, steps=8)
    param = rng.standard_normal(SHAPE)
    opt, expected = Adam(lr=lr, clip_norm=100.0), ByRow(Adam, param.copy())
    for step in range(6):
        gradient = random_rows(rng, 12, np.float64)
        for own in expected._opts:
            own.lr = lr(step)
        opt.update({"E": param}, {"E": gradient})
        expected.update(gradient)
    assert_close(param, expected.param)
    assert opt.iter == 6


def test_numbers_that_change(rng):
    param = rng.standard_normal(SHAPE).astype(np.float32)
    opt, expected = Adam(lr=0.1), ByRow(lambda: Adam(lr=0.1), param.copy())
    for step in range(5):
        if step == 3:
            opt.lr, opt.beta1 = 0.01, 0.5
            for own in expected._opts:
                own.lr, own.beta1 = 0.01, 0.5
        gradient = random_rows(rng, 12)
        opt.update({"E": param}, {"E": gradient})
        expected.update(gradient)
    assert_as_by_row(opt, expected, param)


def test_what_is_carried_from_step_to_step_may_not_be_scheduled(rng):
    opt, params = NAdam(lr=schedules.linear(0.1, 0.0, steps=8)), {"E": rng.standard_normal(SHAPE)}
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match="lr: expected no schedule, as NAdam carries numbers"):
        opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    assert snapshot(opt, params) == before


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda opt: pickle.loads(pickle.dumps(opt)),
    "state_dict": lambda opt: _loaded(opt),
}


def _loaded(opt):
    fresh = type(opt)()
    fresh.load_state_dict(copy.deepcopy(opt.state_dict()))
    return fresh


@pytest.mark.parametrize("way", [*WAYS, "file"])
def test_going_on(way, rng, tmp_path):
    param = rng.standard_normal(SHAPE).astype(np.float32)
    opt, expected = Adam(lr=0.05), ByRow(lambda: Adam(lr=0.05), param.copy())
    for step in range(5):
        if step == 3 and way == "file":
            pytest.importorskip("safetensors", reason="checkpoints need the safetensors package")
            fastoptim.save(tmp_path / "file", {"E": param}, opt)
            opt, param = Adam(), np.zeros_like(param)
            with fastoptim.load(tmp_path / "file") as found:
                found.restore({"E": param}, opt)
        elif step == 3:
            opt = WAYS[way](opt)
        gradient = random_rows(rng, 12)
        opt.update({"E": param}, {"E": gradient})
        expected.update(gradient)
    assert_as_by_row(opt, expected, param)


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        ({"E": np.zeros(SHAPE, np.int32)}, TypeError, r"row_steps\['E'\]: expected integers \(rows,\)"),
        ({"E": np.zeros(COUNT)}, TypeError, "expected integers"),
        ({"E": np.full(COUNT, 9)}, ValueError, r"expected counts in \[0, 1\], got 9 to 9"),
        ({"E": np.full(COUNT, -1)}, ValueError, "got -1"),
        ({"F": np.zeros(COUNT, np.int32)}, ValueError, "expected a name that steps has"),
        (3, TypeError, "row_steps: expected a mapping"),
    ],
)
def test_wrong_counts_are_refused(steps, error, words, rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Adam()
    opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    saved = {**opt.state_dict(), "row_steps": steps}
    with pytest.raises(error, match=words):
        Adam().load_state_dict(saved)


def test_counts_of_other_rows_are_refused(rng):
    params, opt, fresh = {"E": rng.standard_normal(SHAPE)}, SGD(), SGD()
    opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    fresh.load_state_dict(opt.state_dict())
    with pytest.raises(ValueError, match="the optimizer has counted steps of 23 rows"):
        fresh.update({"E": np.zeros((9, 5))}, {"E": random_rows(rng, 4, np.float64, rows=9)})


BAD = {
    "out of range": (
        lambda p: Rows([1, COUNT], np.ones((2, 5))),
        IndexError,
        r"indices: expected numbers in \[0, 23\), got 23",
    ),
    "negative": (lambda p: Rows([-1], np.ones((1, 5))), IndexError, "got -1"),
    "other columns": (lambda p: Rows([1], np.ones((1, 4))), ValueError, r"values: expected the shape \(k, \*\(5,\)\)"),
    "its own memory": (lambda p: Rows([1], p["E"][:1]), ValueError, "values"),
    "another's memory": (lambda p: Rows([1], p["W"][1:2]), ValueError, "share memory"),
    "tuple": (lambda p: (np.array([1]), np.ones((1, 5))), TypeError, r"pass fastoptim\.Rows\(indices, values\)"),
}


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_refused_and_nothing_changed(case, trained, rng):
    make, error, words = BAD[case]
    params, opt = {"E": rng.standard_normal(SHAPE), "W": rng.standard_normal((4, 5))}, Adam()
    good = {"E": random_rows(rng, dtype=np.float64), "W": np.ones((4, 5))}
    if trained:
        opt.update(params, good)
    before = snapshot(opt, params)
    with pytest.raises(error, match=words):
        opt.update(params, {**good, "E": make(params)})
    assert snapshot(opt, params) == before
    opt.update(params, good)


@pytest.mark.parametrize(
    ("indices", "values", "error", "words"),
    [
        ([1.0, np.nan], np.ones((2, 5)), TypeError, "indices: expected integers, got float64"),
        ([[1]], np.ones((1, 5)), ValueError, r"indices: expected the shape \(k,\), got \(1, 1\)"),
        ([1, 2], np.ones((1, 5)), ValueError, "one row for each index"),
        ([1], np.ones((1, 5), int), TypeError, "values: expected dtype"),
        ([True], np.ones((1, 5)), TypeError, "got bool"),
        (np.array([2**63], np.uint64), np.ones((1, 5)), ValueError, r"below 2\*\*63"),
    ],
)
def test_what_are_no_rows(indices, values, error, words):
    with pytest.raises(error, match=f"Rows: .*{words}"):
        Rows(indices, values)


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        *((cls(), f"{cls.__name__} sums over arrays") for cls in SUMMED),
        (Muon(), "Muon updates matrices"),
        (Adam(statistics="nan"), "statistics"),
        (Adam(cautious="rescaled"), "sums over arrays"),
        (Adam(rounding="stochastic"), "random rounding"),
        (Adam(accumulate=2), "accumulate sums whole arrays"),
        (Adam(state_dtype="8bit", rounding="nearest"), "8 bits"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_cannot_go_together(opt, words, rng):
    params = {"E": rng.standard_normal((1000, 5)).astype(np.float32)}
    before = snapshot(opt, params)
    with pytest.raises(TypeError, match=rf"grads\['E'\]: expected a gradient of all rows, as .*{words}"):
        opt.update(params, {"E": random_rows(rng)})
    assert snapshot(opt, params) == before


def test_a_parameter_in_another_order_is_refused(rng):
    with pytest.raises(ValueError, match=r"params\['E'\]: expected it to be C-contiguous"):
        Adam().update({"E": np.zeros(SHAPE[::-1]).T}, {"E": random_rows(rng, dtype=np.float64)})
    with pytest.raises(ValueError, match="its parameter has no rows"):
        Adam().update({"E": np.zeros(())}, {"E": Rows(np.zeros(0, int), np.zeros(0))})


def test_rows_of_a_sparse_matrix(rng):
    sparse = pytest.importorskip("scipy.sparse", reason="takes matrices of SciPy, which is not installed")
    dense = rng.standard_normal(SHAPE) * (rng.random(SHAPE) < 0.1)
    for matrix in sparse.csr_matrix(dense), sparse.coo_matrix(dense), sparse.csc_array(dense):
        found = Rows.of(matrix)
        np.testing.assert_array_equal(found.to_dense(COUNT), dense)
        assert set(found.indices) == set(np.flatnonzero(dense.any(axis=1)))
    with pytest.raises(TypeError, match=r"expected a sparse matrix of scipy\.sparse, got ndarray"):
        Rows.of(dense)
    with pytest.raises(IndexError, match="got 22"):
        Rows([22], np.ones((1, 2))).to_dense(22)


@pytest.mark.parametrize("every", [True, False])
def test_the_steps_of_sparse_adam(every, rng):
    """PyTorch counts the steps of all rows together: the steps are the same ones where each has all rows."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    param = rng.standard_normal(SHAPE)
    tensor = torch.nn.Parameter(torch.tensor(param))
    peer, opt = torch.optim.SparseAdam([tensor], lr=0.05), Adam(lr=0.05, eps=1e-8)
    for step in range(6):
        gradient = random_rows(rng, 60, np.float64)
        if every or step == 0:
            gradient.indices[:COUNT] = np.arange(COUNT)
        tensor.grad = torch.sparse_coo_tensor(gradient.indices[None], gradient.values, SHAPE, check_invariants=False)
        peer.step()
        opt.update({"E": param}, {"E": gradient})
    found = tensor.detach().numpy()
    if every:
        assert_close(found, param)
    else:
        assert np.abs(found - param).max() > 1e-3


CAUGHT_UP = [
    (SGD, {}),
    (SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (SGD, {"momentum": 0.9, "nesterov": True, "maximize": True}),
    (Momentum, {"weight_decay": 0.05, "decoupled": True}),
    (Momentum, {"ema": 0.75, "clip_norm": 3.0, "cautious": True}),
    (Momentum, {"lr": schedules.linear(0.1, 0.01, steps=20)}),
    (Nesterov, {"groups": {"E": {"lr": 0.2}}}),
    (AdaGrad, {}),
    (RMSprop, {}),
    (RMSprop, {"momentum": 0.8}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cls", "options"), CAUGHT_UP)
def test_catching_up_is_what_a_dense_gradient_would_have_done(cls, options, dtype, rng):
    options = {"lr": 0.05, **options}
    params = {"E": rng.standard_normal(SHAPE).astype(dtype), "W": rng.standard_normal((3, 2)).astype(dtype)}
    dense, opt, plain = copy.deepcopy(params), cls(sparse="catch_up", **options), cls(**options)
    for step in range(25):
        own = rng.standard_normal((3, 2)).astype(dtype)
        gradient = rng.standard_normal(SHAPE).astype(dtype) if step == 20 else random_rows(rng, 4, dtype)
        opt.update(params, {"E": gradient, "W": own})
        plain.update(dense, {"E": gradient if step == 20 else gradient.to_dense(COUNT), "W": own})
        if step == 12:
            opt.lr = plain.lr = 0.02
        touched = np.unique(gradient.indices) if step != 20 else np.arange(COUNT)
        assert_close(params["E"][touched], dense["E"][touched])
        some = rng.integers(0, COUNT, 3)
        opt.flush(params, {"E": some})
        assert_close(params["E"][some], dense["E"][some])
    opt.flush(params)
    for name, p in params.items():
        assert_close(p, dense[name], name)
        for slot, own in plain.state.items():
            assert_close(opt.state[slot][name], own[name], slot)
        if "ema" in options:
            assert_close(opt.averages[name], plain.averages[name])


def test_rows_that_have_missed_nothing_keep_their_bits(rng):
    params = {"E": rng.standard_normal(SHAPE).astype(np.float32)}
    dense, opt, plain = copy.deepcopy(params), Momentum(sparse="catch_up"), Momentum()
    for _ in range(4):
        gradient = Rows(np.arange(COUNT), rng.standard_normal(SHAPE).astype(np.float32))
        opt.update(params, {"E": gradient})
        plain.update(dense, {"E": gradient.values})
    assert_same_bits(params["E"], dense["E"])
    opt.flush(params)
    assert_same_bits(params["E"], dense["E"])


def test_more_missed_steps_than_are_remembered(rng, monkeypatch):
    """All rows are brought up to date then."""
    monkeypatch.setattr("fastoptim.state.missed.LONGEST", 5)
    params = {"E": rng.standard_normal(SHAPE)}
    dense, opt, plain = copy.deepcopy(params), Momentum(sparse="catch_up", lr=0.1), Momentum(lr=0.1)
    for _ in range(23):
        gradient = random_rows(rng, 2, np.float64)
        opt.update(params, {"E": gradient})
        plain.update(dense, {"E": gradient.to_dense(COUNT)})
        assert len(opt._stepper.counts.missed["E"]) < 5
    opt.flush(params)
    assert_close(params["E"], dense["E"])


def test_masters_and_shadows_catch_up(rng):
    first = rng.standard_normal(SHAPE).astype(BFLOAT16)
    params, dense = {"E": first.copy()}, {"E": first.copy()}
    opt, plain = Momentum(sparse="catch_up", master="float32", lr=0.1), Momentum(master="float32", lr=0.1)
    for _ in range(9):
        gradient = random_rows(rng, 4)
        opt.update(params, {"E": gradient})
        plain.update(dense, {"E": gradient.to_dense(COUNT)})
    opt.flush(params)
    assert_close(opt.masters["E"], plain.masters["E"])
    assert np.abs(params["E"].astype(np.float32) - dense["E"].astype(np.float32)).max() < 0.02


def test_what_is_behind_is_not_saved(rng, tmp_path):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Momentum(sparse="catch_up", lr=0.1)
    for _ in range(3):
        opt.update(params, {"E": random_rows(rng, 4, np.float64)})
    for save in opt.state_dict, lambda: copy.deepcopy(opt), lambda: pickle.dumps(opt):
        with pytest.raises(RuntimeError, match=r"rows of 'E' are behind, expected opt\.flush\(params\)"):
            save()
    opt.sparse = "lazy"
    with pytest.raises(ValueError, match=r"rows are behind, expected opt\.flush\(params\)"):
        opt.update(params, {"E": random_rows(rng, 4, np.float64)})
    opt.sparse = "catch_up"
    opt.flush(params)
    other, others = Momentum(), copy.deepcopy(params)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(3):
        gradient = random_rows(rng, 4, np.float64)
        opt.update(params, {"E": gradient})
        other.update(others, {"E": gradient})
    opt.flush(params)
    other.flush(others)
    assert_same_bits(params["E"], others["E"])
    opt.sparse = "lazy"  # all rows have made as many steps
    opt.update(params, {"E": random_rows(rng, 4, np.float64)})
    opt.sparse = "catch_up"
    with pytest.raises(ValueError, match="sparse: expected 'lazy', as rows of 'E' have counted their own steps"):
        opt.update(params, {"E": random_rows(rng, 4, np.float64)})


def test_averages_are_those_of_all_rows(rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Momentum(sparse="catch_up", ema=0.75, lr=0.1)
    dense, plain = copy.deepcopy(params), Momentum(ema=0.75, lr=0.1)
    for _ in range(5):
        gradient = random_rows(rng, 4, np.float64)
        opt.update(params, {"E": gradient})
        plain.update(dense, {"E": gradient.to_dense(COUNT)})
    with opt.averaged(params), plain.averaged(dense):
        assert_close(params["E"], dense["E"])
    assert_close(params["E"], dense["E"])


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        *((cls(sparse="catch_up"), "is no product") for cls in (Adam, fastoptim.Lion, fastoptim.RAdam)),
        (AdaGrad(sparse="catch_up", weight_decay=0.1), "is no product"),
        (Momentum(sparse="catch_up", bounds=(-1, 1)), "bounds are no product"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_where_there_is_no_closed_form(opt, words, rng):
    params = {"E": rng.standard_normal(SHAPE)}
    before = snapshot(opt, params)
    with pytest.raises(TypeError, match=words):
        opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    assert snapshot(opt, params) == before


def test_flush_refuses_what_is_out_of_range(rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Momentum(sparse="catch_up")
    opt.update(params, {"E": random_rows(rng, 4, np.float64)})
    with pytest.raises(IndexError, match=r"flush: rows\['E'\]: expected numbers in \[0, 23\), got 23"):
        opt.flush(params, {"E": [1, 23]})
    with pytest.raises(TypeError, match="indices: expected integers"):
        opt.flush(params, {"E": [0.5]})
    Adam().flush(params)  # nothing is behind


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [SGD, Adam])
def test_the_public_kernel(cls, dtype, rng):
    """It is given the numbers of a step, as it counts none."""
    param, opt = rng.standard_normal(SHAPE).astype(dtype), cls(lr=0.1)
    own, state = param.copy(), np.zeros((len(cls.slots), *SHAPE), dtype)
    for t in 1, 2, 3:
        gradient = random_rows(rng, 60, dtype)
        gradient.indices[:COUNT] = np.arange(COUNT)  # so that all rows have made as many steps
        opt.update({"E": param}, {"E": gradient})
        cls.kernels.rows(own, gradient.indices.astype(np.uint16), gradient.values, state, cls(lr=0.1).scalars(t))
    assert_same_bits(own, param)
    for slot, found in zip(cls.slots, state, strict=True):
        assert_same_bits(found, opt.state[slot]["E"])


def test_what_the_public_kernel_refuses(rng):
    p, values, state, scalars = np.zeros(SHAPE), np.ones((2, 5)), np.zeros((0, *SHAPE)), (0.1,)
    kernel = SGD.kernels.rows
    with pytest.raises(IndexError, match="expected numbers in"):
        kernel(p, np.array([1, COUNT]), values, state, scalars)
    for wrong, error in [
        ((p[:, 0], np.array([1, 2]), values, state, scalars), TypeError),
        ((p, np.array([1.0, 2.0]), values, state, scalars), TypeError),
        ((p, np.array([1, 2]), values.astype(np.float32), state, scalars), TypeError),
        ((p, np.array([1, 2]), values, state, (0.1, 0.2)), ValueError),
        ((p, np.array([1]), values, state, scalars), ValueError),
        ((p, np.array([1, 2]), values, np.zeros((1, *SHAPE)), scalars), ValueError),
    ]:
        with pytest.raises(error):
            kernel(*wrong)
    assert not p.any()


def both(cls, options, first, calls, rng, before_flush=None):
    """Train with rows that catch up, and with dense gradients, and compare."""
    params, dense = {"E": first.copy()}, {"E": first.copy()}
    opt, plain = cls(sparse="catch_up", **options), cls(**options)
    for i in range(calls):
        gradient = random_rows(rng, 4, first.dtype, *first.shape[:1], first.shape[1:])
        if before_flush is not None and i == calls // 2:
            before_flush(opt)
            before_flush(plain)
        opt.update(params, {"E": gradient})
        plain.update(dense, {"E": gradient.to_dense(len(first))})
    opt.flush(params)
    assert_close(params["E"], dense["E"])
    return opt, plain


def test_averages_that_come_later_while_nothing_is_behind(rng):
    """SGD leaves rows without a gradient as they are: none is behind, though each was updated in another step."""
    opt, plain = both(SGD, {"lr": 0.1}, rng.standard_normal(SHAPE), 20, rng, lambda opt: setattr(opt, "ema", 0.9))
    assert_close(opt.averages["E"], plain.averages["E"])
    opt.sparse = "lazy"
    opt.update({"E": np.zeros(SHAPE)}, {"E": Rows([3], np.ones((1, 5)))})
    steps = opt.state_dict()["row_steps"]["E"]
    assert steps[3] == 21
    assert set(np.delete(steps, 3)) == {20}


@pytest.mark.parametrize("cls", [SGD, Adam])
@pytest.mark.parametrize("options", [{}, {"ema": 0.5}])
def test_a_parameter_that_was_in_another_order(cls, options, rng):
    """Its state moves to C order."""
    first = np.asfortranarray(rng.standard_normal(SHAPE))
    opt, plain = cls(lr=0.1, **options), cls(lr=0.1, **options)
    one, other, gradient = {"E": first.copy(order="F")}, {"E": np.ascontiguousarray(first)}, rng.standard_normal(SHAPE)
    opt.update(one, {"E": gradient})
    plain.update(other, {"E": gradient})
    one = {"E": np.ascontiguousarray(one["E"])}
    for _ in range(3):
        gradient = random_rows(rng, 9, np.float64)
        opt.update(one, {"E": gradient})
        plain.update(other, {"E": gradient})
    assert_same_bits(one["E"], other["E"])


@pytest.mark.parametrize("shape", [(3, 5), (30, 5), (COUNT, 4), ()])
def test_a_dense_gradient_of_another_shape_is_refused(shape, rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, SGD()
    opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    before = snapshot(opt, params)
    with pytest.raises(ValueError, match=r"grads\['E'\]: expected the parameter's shape \(23, 5\)"):
        opt.update(params, {"E": np.ones(shape)})
    assert snapshot(opt, params) == before


@pytest.mark.parametrize("cls", [fastoptim.ScheduleFreeSGD, fastoptim.ScheduleFreeAdamW])
def test_evaluation_parameters(cls, rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, cls(lr=0.1)
    dense, plain = copy.deepcopy(params), cls(lr=0.1)
    for _ in range(3):
        gradient = Rows(rng.permutation(COUNT), rng.standard_normal(SHAPE))
        opt.update(params, {"E": gradient})
        plain.update(dense, {"E": gradient.to_dense(COUNT)})
    with opt.averaged(params), plain.averaged(dense):
        assert_close(params["E"], dense["E"])
    assert_close(params["E"], dense["E"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_reach_the_callers_array(dtype, rng):
    """Also where the numbers are converted first, or copied into C order."""
    params, opt = {"E": rng.standard_normal(SHAPE).astype(np.float64)}, SGD(zero_grads=True)
    gradient = random_rows(rng, dtype=dtype)
    opt.update(params, {"E": gradient})
    assert not gradient.values.any()
    dense = np.asfortranarray(rng.standard_normal(SHAPE).astype(dtype))
    opt.update(params, {"E": dense})
    assert not dense.any()
    gradient.values.flags.writeable = dense.flags.writeable = False
    for wrong in gradient, dense:
        with pytest.raises(ValueError, match=r"grads\['E'\].*writeable"):
            opt.update(params, {"E": wrong})


def test_flush_looks_at_the_parameter(rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Momentum(sparse="catch_up", lr=0.1)
    for _ in range(3):
        opt.update(params, {"E": random_rows(rng, 2, np.float64)})
    before = params["E"].copy()
    read_only = params["E"].view()
    read_only.flags.writeable = False
    for wrong in params["E"][:1], params["E"].view(np.int64), read_only:
        with pytest.raises((TypeError, ValueError), match=r"params\['E'\]"):
            opt.flush({"E": wrong})
    with pytest.raises(KeyError, match="flush: rows has 'e', which params has not"):
        opt.flush(params, {"e": [1]})
    assert_same_bits(params["E"], before)
    moved = {"E": params["E"].copy()}
    opt.flush(moved, {"E": 3})
    opt.flush(moved)
    opt.sparse = "lazy"
    opt.flush(moved)
    assert not opt._stepper.counts.is_behind("E")


def test_gradients_of_other_memory_or_size_cannot_be_put_in_place(rng):
    gradient = random_rows(rng)
    for name in "indices", "values":
        with pytest.raises(AttributeError):
            setattr(gradient, name, np.zeros(3))


def test_options_that_come_later(rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Momentum(sparse="catch_up")
    opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    opt.statistics = ("grad_norm",)
    with pytest.raises(TypeError, match="as statistics are of all elements; got Rows"):
        opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    with pytest.raises(TypeError, match="got an array, after Rows in another call"):
        opt.update(params, {"E": np.ones(SHAPE)})


def test_a_norm_that_is_not_finite(rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Momentum(sparse="catch_up", clip_norm=1.0)
    opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    gradient = random_rows(rng, 3, np.float64)
    gradient.values[:] = np.nan
    opt.update(params, {"E": gradient})
    assert np.isnan(params["E"]).any(axis=1).sum() == len(np.unique(gradient.indices))


def test_an_unaligned_parameter_is_refused(rng):
    param = LAYOUTS["unaligned"](rng.standard_normal(SHAPE))
    opt = SGD()
    with pytest.raises(ValueError, match="expected it to be aligned"):
        opt.update({"E": param}, {"E": random_rows(rng, dtype=np.float64)})
    assert opt.iter == 0


@pytest.mark.parametrize("is_skipped", [False, True])
def test_no_gradient_is_kept_alive(is_skipped, rng):
    params, opt = {"E": rng.standard_normal(SHAPE)}, Adam(skip_nonfinite=True)
    opt.update(params, {"E": random_rows(rng, dtype=np.float64)})
    values = rng.standard_normal((3, 5))
    values[1, 1] = np.inf if is_skipped else 1
    gradient, alive = Rows([1, 2, 3], values), weakref.ref(values)
    del values
    opt.update(params, {"E": gradient})
    assert opt.skipped == is_skipped
    del gradient
    gc.collect()
    assert alive() is None


def test_a_schedule_of_a_group_counts_as_one(rng):
    opt = NAdam(groups={"E": {"lr": schedules.linear(0.1, 0.0, steps=8)}})
    with pytest.raises(ValueError, match="lr: expected no schedule, as NAdam carries numbers"):
        opt.update({"E": rng.standard_normal(SHAPE)}, {"E": random_rows(rng, dtype=np.float64)})


def test_a_shadow_of_rows_that_catch_up_is_refused(rng):
    params, shadow = {"E": rng.standard_normal(SHAPE).astype(np.float32)}, {"E": np.zeros(SHAPE, np.float16)}
    with pytest.raises(TypeError, match="a shadow would be behind"):
        Momentum(sparse="catch_up").update(params, {"E": random_rows(rng)}, shadow=shadow)
