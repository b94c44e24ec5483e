"""`state_dict` and `load_state_dict`, copies and pickles: going on from them gives the bits of never having stopped."""

import copy
import inspect
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastoptim
from fastoptim import SGD, Adam
from references import ALONE, EVERYTHING, SEVERAL
from support import FEW, LAYOUTS, OPTIMIZERS, frozen, random, snapshot
from variants import VARIANTS, accepted

F4, F8 = np.float32, np.float64
SHAPES = {"W": (6, 5), "b1": (5,), "s": (), "late": (3,), "none": (0, 2), "never": (4,)}

CASES = [(Adam, option) for option in ALONE]
CASES += [(cls, options) for cls in FEW for options in SEVERAL]
CASES += [(cls, options) for cls in OPTIMIZERS for options in ("none", "everything")]
OPTIONS_BY_NAME = {"none": {}, **ALONE, **SEVERAL, "everything": EVERYTHING}


def start(dtypes=(F4,)):
    rng = np.random.default_rng(1)
    params = {name: random(rng, shape, dtypes[i % len(dtypes)]) for i, (name, shape) in enumerate(SHAPES.items())}
    return {**params, "W": params["W"].copy("F"), "b1": LAYOUTS["strided"](params["b1"])}


def gradients(call, params, options):
    """Those of one call: some are missing, and some are nan where that is skipped."""
    rng = np.random.default_rng(100 + call)
    grads = {name: random(rng, p.shape, p.dtype) for name, p in params.items()} | {"never": None}
    if call < 4:
        grads["late"] = None
    if "skip_nonfinite" in options and call % 3 == 1:
        grads["W"][1, 1] = np.nan
    return grads


def train(opt, params, calls, options):
    for call in calls:
        opt.update(params, gradients(call, params, options))


def everything(opt, params):
    """All that lasts, which the norm of the last call does not."""
    found = snapshot(opt, params)
    return {**found, "counts": found["counts"][:2]}


def by_state_dict(opt):
    fresh = type(opt)()
    assert fresh.load_state_dict(opt.state_dict()) is None
    return fresh


def by_text_and_files(opt):
    """What is no array as JSON, and the arrays by pickle."""
    saved = opt.state_dict()
    saved["hyperparameters"] = json.loads(json.dumps(saved["hyperparameters"]))
    fresh = type(opt)()
    fresh.load_state_dict(pickle.loads(pickle.dumps(saved)))
    return fresh


def into_a_used_one(opt):
    used = type(opt)(**accepted(type(opt), {**EVERYTHING, "ema": 0.1, "groups": None}))
    other = {"W": np.ones(3, F4), "z": np.ones((2, 2), F4)}
    for _ in range(3):
        used.update(other, copy.deepcopy(other))
    used.load_state_dict(opt.state_dict())
    return used


WAYS = {
    "state_dict": by_state_dict,
    "text and files": by_text_and_files,
    "into a used one": into_a_used_one,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda opt: pickle.loads(pickle.dumps(opt)),
}


@pytest.mark.parametrize(("cls", "options"), CASES)
def test_the_same_bits_as_never_having_stopped(cls, options):
    """Stopped before the first call, after one, after three, which may be amid a sum, and after five."""
    options = accepted(cls, OPTIONS_BY_NAME[options])
    made = cls(**{**VARIANTS[cls.__name__][0], **options})
    params, opt = start(), made
    kept = []
    for call in range(8):
        if call in (0, 1, 3, 5):
            kept += [(call, copy.deepcopy(params), way, take(opt)) for way, take in WAYS.items()]
        train(opt, params, [call], options)
    expected = everything(opt, params)
    for call, theirs, way, twin in kept:
        assert type(twin) is cls
        train(twin, theirs, range(call, 8), options)
        assert everything(twin, theirs) == expected, f"{way} after {call}"
        assert repr(twin) == repr(opt)


def test_both_dtypes_and_flat():
    for make in copy.deepcopy, fastoptim.flatten:
        params = make(start((F4, F8)))
        opt = Adam(**EVERYTHING)
        train(opt, params, range(5), EVERYTHING)
        theirs, twin = copy.deepcopy(params), by_state_dict(opt)
        train(opt, params, range(5, 9), EVERYTHING)
        train(twin, theirs, range(5, 9), EVERYTHING)
        assert everything(twin, theirs) == everything(opt, params)
        for name, p in theirs.items():
            if name != "never":
                assert all(twin.state[slot][name].dtype == p.dtype for slot in Adam.slots)


@settings(max_examples=25, deadline=None)
@given(
    cls=st.sampled_from(OPTIMIZERS),
    options=st.sampled_from(["none", "everything"]),
    order=st.permutations(sorted(SHAPES)),
    stops=st.lists(st.tuples(st.sampled_from(sorted(WAYS)), st.sampled_from(sorted(LAYOUTS))), min_size=6, max_size=6),
)
def test_stopped_after_every_call_and_with_arrays_in_another_order_and_layout(cls, options, order, stops):
    options = accepted(cls, OPTIONS_BY_NAME[options])
    params, theirs = start(), start()
    opt, twin = cls(**options), cls(**options)
    for call, (way, layout) in enumerate(stops):
        train(opt, params, [call], options)
        grads = gradients(call, params, options)
        theirs = {name: LAYOUTS[layout](theirs[name]) for name in order}
        twin.update(theirs, grads)
        twin = WAYS[way](twin)
    for name, p in params.items():
        assert theirs[name].tobytes() == p.tobytes()
    assert everything(twin, {}) == everything(opt, {})


def trained(cls=Adam, **options):
    options = {**EVERYTHING, **options}
    params, opt = start(), cls(**options)
    train(opt, params, range(5), options)
    return opt, params


def test_what_a_state_dict_has():
    opt, params = trained()
    saved = opt.state_dict()
    counts = ["iter", "skipped", "micro_steps", "steps"]
    assert set(saved) == {"optimizer", "hyperparameters", *counts, "slots", "ema", "gradients"}
    assert saved["optimizer"] == "Adam"
    assert set(saved["hyperparameters"]) == set(inspect.signature(Adam).parameters)
    assert json.loads(json.dumps(saved["hyperparameters"])) == saved["hyperparameters"]
    assert (saved["iter"], saved["skipped"], saved["micro_steps"]) == (opt.iter, opt.skipped, {}) == (1, 2, {})
    assert saved["steps"]["W"] == 1
    assert list(saved["slots"]) == ["m", "v"]
    for name in "W", "b1", "s", "none":
        for slot in "m", "v":
            assert saved["slots"][slot][name].tobytes() == opt.state[slot][name].tobytes()
        assert saved["ema"][name].tobytes() == opt.averages[name].tobytes()
        for arrays in saved["slots"]["m"], saved["slots"]["v"], saved["ema"]:
            assert type(arrays[name]) is np.ndarray
            assert (arrays[name].shape, arrays[name].dtype) == (params[name].shape, params[name].dtype)
    train(opt, params, [6], {})
    saved = opt.state_dict()
    assert saved["micro_steps"] == dict.fromkeys(params, 1)
    grads = gradients(6, params, {})
    for name in "W", "b1", "s", "late":
        np.testing.assert_allclose(saved["gradients"][name], grads[name] / F4(3), rtol=1e-6)
    json.dumps({name: saved[name] for name in counts})


def test_a_fresh_ones_state_dict():
    saved = Adam(lr=0.5).state_dict()
    assert (saved["iter"], saved["skipped"]) == (0, 0)
    assert saved["steps"] == saved["ema"] == saved["micro_steps"] == saved["gradients"] == {}
    assert saved["slots"] == {"m": {}, "v": {}}
    opt, params = trained()
    opt.load_state_dict(saved)
    assert repr(opt) == repr(Adam(lr=0.5))
    assert opt.iter == opt.skipped == 0
    assert opt.averages is None
    fresh, theirs = Adam(lr=0.5), copy.deepcopy(params)
    train(opt, params, range(2), {})
    train(fresh, theirs, range(2), {})
    assert everything(opt, params) == everything(fresh, theirs)


def test_what_is_loaded_is_copied():
    opt, params = trained()
    train(opt, params, [6], {})
    saved, twin = copy.deepcopy(opt.state_dict()), Adam()
    twin.load_state_dict(saved)
    kept, theirs = frozen(saved), copy.deepcopy(params)
    train(opt, params, range(8, 12), {})
    train(twin, theirs, range(8, 12), {})
    assert frozen(saved) == kept
    assert everything(twin, theirs) == everything(opt, params)


def test_other_callables_have_to_be_there():
    def rate(step):
        return 0.1 / (step + 1)

    opt, params = trained(lr=rate)
    saved, theirs = json.loads(json.dumps(opt.state_dict()["hyperparameters"])), copy.deepcopy(params)
    saved = {**opt.state_dict(), "hyperparameters": saved}
    twin, without = Adam(lr=rate), Adam()
    before = everything(without, {})
    with pytest.raises((TypeError, ValueError), match="lr"):
        without.load_state_dict(saved)
    assert everything(without, {}) == before
    twin.load_state_dict(saved)
    assert twin.lr is rate
    train(opt, params, range(8, 12), {})
    train(twin, theirs, range(8, 12), {})
    assert everything(twin, theirs) == everything(opt, params)


def test_arrays_of_any_order_and_read_only_ones_are_taken():
    opt, params = trained()
    saved = opt.state_dict()
    for arrays in (*saved["slots"].values(), saved["ema"]):
        for i, (name, array) in enumerate(arrays.items()):
            arrays[name] = list(LAYOUTS.values())[i % len(LAYOUTS)](array)
            arrays[name].flags.writeable = False
    twin, theirs = Adam(), copy.deepcopy(params)
    twin.load_state_dict(saved)
    train(opt, params, range(8, 12), {})
    train(twin, theirs, range(8, 12), {})
    assert everything(twin, theirs) == everything(opt, params)


def test_names_of_any_kind():
    params = {name: np.ones(3, F4) for name in (3, ("a", 1), "x", None)}
    opt = Adam(**{**EVERYTHING, "accumulate": 2, "groups": None})
    for _ in range(3):
        opt.update(params, copy.deepcopy(params))
    twin, theirs = by_state_dict(opt), copy.deepcopy(params)
    opt.update(params, copy.deepcopy(params))
    twin.update(theirs, copy.deepcopy(theirs))
    assert everything(twin, theirs) == everything(opt, params)


# what to change in a good dict; after each of these it is refused
BAD = {
    "another class": lambda d: d.update(optimizer="SGD"),
    "no class": lambda d: d.update(optimizer=None),
    "iter is text": lambda d: d.update(iter="1"),
    "iter is a fraction": lambda d: d.update(iter=1.5),
    "iter is negative": lambda d: d.update(iter=-1),
    "skipped is negative": lambda d: d.update(skipped=-1),
    "skipped is None": lambda d: d.update(skipped=None),
    "micro-steps are a number": lambda d: d.update(micro_steps=1),
    "a micro-step is text": lambda d: d["micro_steps"].update(W="no"),
    "a micro-step is negative": lambda d: d["micro_steps"].update(W=-1),
    "a sum without a micro-step": lambda d: d["micro_steps"].pop("W"),
    "steps is a list": lambda d: d.update(steps=[1, 2]),
    "a count is text": lambda d: d["steps"].update(W="1"),
    "a count is negative": lambda d: d["steps"].update(W=-1),
    "a count is a fraction": lambda d: d["steps"].update(W=0.5),
    "hyperparameters is None": lambda d: d.update(hyperparameters=None),
    "an unknown hyperparameter": lambda d: d["hyperparameters"].update(learning_rate=0.1),
    "a negative rate": lambda d: d["hyperparameters"].update(lr=-0.1),
    "an unknown schedule": lambda d: d["hyperparameters"].update(lr={"schedule": "os.system"}),
    "accumulate is 0": lambda d: d["hyperparameters"].update(accumulate=0),
    "ema is 1": lambda d: d["hyperparameters"].update(ema=1),
    "a wrong group": lambda d: d["hyperparameters"].update(groups={"W": {"ema": 0.1}}),
    "slots is None": lambda d: d.update(slots=None),
    "a slot is missing": lambda d: d["slots"].pop("v"),
    "a slot too much": lambda d: d["slots"].update(h={}),
    "a slot is a list": lambda d: d["slots"].update(v=[]),
    "a name is missing in one slot": lambda d: d["slots"]["v"].pop("W"),
    "another shape in one slot": lambda d: d["slots"]["v"].update(W=np.zeros((5, 6), F4)),
    "another dtype in one slot": lambda d: d["slots"]["v"].update(W=np.zeros((6, 5), F8)),
    "integers": lambda d: [d["slots"][slot].update(W=np.zeros((6, 5), int)) for slot in ("m", "v")],
    "halves": lambda d: [d["slots"][slot].update(W=np.zeros((6, 5), np.float16)) for slot in ("m", "v")],
    "lists": lambda d: [d["slots"][slot].update(W=[[0.0] * 5] * 6) for slot in ("m", "v")],
    "an average of another shape": lambda d: d["ema"].update(W=np.zeros((5, 6), F4)),
    "an average of another dtype": lambda d: d["ema"].update(W=np.zeros((6, 5), F8)),
    "an average is a number": lambda d: d["ema"].update(W=1.0),
    "averages are a list": lambda d: d.update(ema=[]),
    "a sum of another shape": lambda d: d["gradients"].update(W=np.zeros((5, 6), F4)),
    "a sum of another dtype": lambda d: d["gradients"].update(W=np.zeros((6, 5), F8)),
    "sums are a number": lambda d: d.update(gradients=3),
}


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("case", [*BAD, *(f"{key} is missing" for key in Adam().state_dict())])
def test_a_wrong_dict_is_refused_and_changes_nothing(case, used):
    opt, params = trained()
    train(opt, params, [6], {})
    saved = opt.state_dict()
    if case in BAD:
        BAD[case](saved)
        given = frozen(saved)
    else:
        del saved[case.split()[0]]
        given = frozen(saved)
    mine = trained(lr=0.5, ema=0.25)[0] if used else Adam()
    before = everything(mine, {})
    with pytest.raises((KeyError, TypeError, ValueError)):
        mine.load_state_dict(saved)
    assert everything(mine, {}) == before
    assert frozen(saved) == given
    train(mine, copy.deepcopy(params), range(3), {})


@pytest.mark.parametrize("wrong", [None, 3, [], "state", Adam()], ids=str)
def test_what_is_no_dict(wrong):
    opt, _ = trained()
    before = everything(opt, {})
    with pytest.raises((TypeError, ValueError)):
        opt.load_state_dict(wrong)
    assert everything(opt, {}) == before


def test_another_class_is_named():
    with pytest.raises(ValueError, match=r"(?s)Adam.*SGD|SGD.*Adam"):
        SGD().load_state_dict(Adam().state_dict())


def test_loading_within_averaged_is_refused_or_undone():
    """Either way the caller has the own numbers back."""
    opt, params = trained()
    train(opt, params, range(4), {})
    kept, saved = frozen(params), opt.state_dict()
    try:
        with opt.averaged({name: p for name, p in params.items() if name in opt.averages}):
            opt.load_state_dict(saved)
    except RuntimeError:
        pass
    assert frozen(params) == kept


def test_an_average_being_looked_at_survives_pickling():
    """A pickle made within `averaged` is of an optimizer that may go on."""
    opt, params = trained()
    averages = {name: p for name, p in params.items() if name in opt.averages}
    with opt.averaged(averages):
        twin = pickle.loads(pickle.dumps(opt))
    train(twin, params, range(3), {})


def test_what_a_state_dict_of_an_older_version_lacks_is_at_its_default():
    opt, _ = trained()
    saved = opt.state_dict()
    del saved["hyperparameters"]["eps_in_root"]
    again = Adam(eps_in_root=True)
    again.load_state_dict(saved)
    assert again.hyperparameters() == opt.hyperparameters()
