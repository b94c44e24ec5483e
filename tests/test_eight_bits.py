"""State in codes of 8 bits: bit by bit as in NumPy, and what it is good for."""

import copy
import re
from math import sqrt

import numpy as np
import pytest
from codes_in_numpy import decoded, encoded, table
from orders import assert_any_order_gives_the_same

import fastoptim
from fastoptim import LAMB, SGD, Adam, Muon, Optimizer, nonnegative, rule
from internals import bytes_of_state
from rounding_in_numpy import BFLOAT16, at_random, random_bits, to_nearest
from support import FEW, ON_GPU, assert_same_bits, assert_state_same_bits, random, snapshot

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
SHAPES = {"W": (37, 1000), "few": (4095,), "least": (4096,), "b": (7,)}  # the last block of W is not whole
CODED = "W", "least"
OF_ELEMENTS = [cls for cls in ON_GPU if not cls.reductions]
EIGHT = {"state_dtype": "8bit"}


def arrays(rng, shapes=SHAPES, dtype=F4):
    return {name: random(rng, shape, dtype) for name, shape in shapes.items()}


def slots_in_codes(cls):
    return [slot for slot in cls().stored_slots if slot not in cls.parameter_slots]


def numbers_of(opt):
    """The state as it is saved: codes and scales by slot and name."""
    saved = opt.state_dict()
    return {
        slot: {name: (codes, saved["scales"][slot][name]) for name, codes in own.items() if codes.dtype == np.uint8}
        for slot, own in saved["slots"].items()
    }


def compare(opt, plain, before=0, at=None):
    """Round the state of `plain` in NumPy, and compare that of `opt`."""
    found = numbers_of(opt) if slots_in_codes(type(opt)) else {}
    for name in (name for name in CODED if opt.iter):
        for number, slot in enumerate(slots_in_codes(type(opt)), before):
            own, is_root = plain.state[slot][name], slot in opt.nonnegative_slots
            bits = () if opt.rounding == "nearest" else (random_bits(opt.seed, opt.iter, name, own.size, number),)
            codes, scales = encoded(own, is_root, *bits)
            assert_same_bits(found[slot][name][0], codes, f"{slot} {name}")
            assert_same_bits(found[slot][name][1], scales, f"{slot} {name}")
            own[...] = decoded(codes, scales, is_root)
            assert_same_bits(opt.state[slot][name], own, f"{slot} {name}")


def steps_are_as_in_numpy(opt, plain, rng):
    """Some steps on the numbers of the codes, and in full with NumPy's rounding behind each."""
    params = arrays(rng)
    full = {name: p.copy() for name, p in params.items()}
    for _ in range(3):
        grads = arrays(rng)
        opt.update(params, grads)
        plain.update(full, grads)
        compare(opt, plain)
        for name, p in params.items():
            assert_same_bits(p, full[name], name)
    for name in "few", "b":
        assert_state_same_bits(opt, plain, name)
    for slot in opt.parameter_slots:
        assert_same_bits(opt.state[slot]["W"], plain.state[slot]["W"])


@pytest.mark.parametrize(("cls", "rounding"), [*((cls, None) for cls in OF_ELEMENTS), (Adam, "nearest")])
def test_every_optimizer(cls, rounding, rng):
    """A step on the numbers of the codes, and NumPy's rounding behind it; but for less than 4,096 elements."""
    steps_are_as_in_numpy(cls(**EIGHT, rounding=rounding, seed=5), cls(), rng)


@pytest.mark.parametrize("cls", ON_GPU)
def test_which_slots_are_never_negative(cls, rng):
    """What an optimizer says of its slots is so: others have numbers of both signs."""
    shown = set()
    for values in [{}, *({name: 0.5 if name == "momentum" else True for name in key} for key in cls.variants)]:
        params, opt = arrays(rng), cls(**values)
        for _ in range(3):
            opt.update(params, arrays(rng))
        for slot in opt.stored_slots:
            shown.add(slot)
            assert (opt.state[slot]["W"] >= 0).all() == (slot in cls.nonnegative_slots), slot
    assert {*cls.nonnegative_slots, *cls.parameter_slots} <= shown


@pytest.mark.parametrize("cls", [cls for cls in ON_GPU if cls.reductions and cls().stored_slots])
def test_what_sums_over_arrays(cls, rng):
    """Its state is rounded between the passes: the step is near that of float32."""
    params, opt, plain = arrays(rng), cls(**EIGHT), cls()
    full = {name: p.copy() for name, p in params.items()}
    for _ in range(3):
        grads = arrays(rng)
        opt.update(params, grads)
        plain.update(full, grads)
    for slot in slots_in_codes(cls):
        error = np.abs(opt.state[slot]["W"] - plain.state[slot]["W"]).max()
        assert error < 0.2 * np.abs(plain.state[slot]["W"]).max(), slot
    assert np.abs(params["W"] - full["W"]).max() < 0.3 * np.abs(full["W"]).max()


OPTIONS = [
    {"clip_norm": 0.7, "ema": 0.9, "weight_decay": 0.1, "decoupled": True, "groups": {"b": {"lr": 0.3}}},
    {"cautious": "rescaled", "bounds": (-1.0, 1.5), "clip_value": 0.5, "statistics": ("update_norm", "nan")},
    {"accumulate": 2, "zero_grads": True},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_options(options, rng):
    params, opt, plain = arrays(rng), Adam(**EIGHT, **options), Adam(**options)
    full = {name: p.copy() for name, p in params.items()}
    for _ in range(4):
        grads = arrays(rng)
        opt.update(params, {name: g.copy() for name, g in grads.items()})
        plain.update(full, grads)
        if not opt.state_dict()["micro_steps"]:
            compare(opt, plain)
        for name, p in params.items():
            assert_same_bits(p, full[name], name)
        assert opt.last_statistics == plain.last_statistics


@pytest.mark.parametrize("options", [{}, {"master": "float32"}, {"rounding": "kahan"}, {"rounding": "nearest"}])
def test_parameters_of_16_bits(options, rng):
    """They are rounded as the state is, but where they have a master or keep what they lose."""
    params, opt = arrays(rng, dtype=BFLOAT16), Adam(**EIGHT, **options)
    plain = Adam(**{name: x for name, x in options.items() if name == "master" or x == "kahan"})
    other = {name: p.copy() for name, p in params.items()}
    exact = bool(options)
    for _ in range(3):
        grads = arrays(rng, dtype=BFLOAT16)
        full = {name: p.astype(F4) for name, p in params.items()}
        opt.update(params, grads)
        plain.update(other if options else full, grads)
        compare(opt, plain, before=not exact)
        for name, p in params.items():
            if not exact:
                full[name] = at_random(full[name], BFLOAT16, random_bits(0, opt.iter, name, p.size, 0))
                assert_same_bits(np.ravel(p), full[name], name)
            else:
                assert_same_bits(p, other[name], name)


def test_shadows(rng):
    params, opt = arrays(rng), Adam(**EIGHT, clip_norm=1.0)
    shadow = {name: p.astype(BFLOAT16) for name, p in params.items()}
    for _ in range(2):
        opt.update(params, arrays(rng, dtype=BFLOAT16), shadow=shadow)
    for name, p in params.items():
        assert_same_bits(shadow[name], to_nearest(p, BFLOAT16), name)


def test_float64_has_its_own_state(rng):
    params = arrays(rng, dtype=F8)
    opt, plain, full = Adam(**EIGHT), Adam(), {name: p.copy() for name, p in params.items()}
    opt.update(params, params)
    plain.update(full, full)
    for name in params:
        assert_state_same_bits(opt, plain, name)


def test_the_numbers_of_codes():
    """Zero is one of them, and the largest number of a block; neighbours are a part of 1/8 or 1/16 apart."""
    for mantissa, is_root in (3, False), (4, True):
        numbers, shift = table(mantissa)
        assert (numbers[0] == shift) == (not is_root)
        assert (np.diff(numbers) > 0).all()
        assert (np.diff(numbers)[-8:] / numbers[-8:] < 2.0**-mantissa).all()
        block = np.linspace(0, 1, 4096, dtype=F4) ** 4
        codes, scales = encoded(block, is_root)
        read = decoded(codes, scales, is_root)
        assert abs(read[-1] - 1) < 1e-6
        assert (read[0] == 0) == (not is_root)
        for _ in range(3):  # what does not change, stays
            assert_same_bits(encoded(read, is_root)[0], codes)
            read = decoded(*encoded(read, is_root), is_root)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e38, 1e-38, 1e-40, 1e-45, 0.0, -0.0])
def test_odd_numbers(number, rng):
    """What is not finite takes its block with it, and no other. The numbers are in m as they are."""
    opt, g = Adam(beta1=0.0, **EIGHT, rounding="nearest"), random(rng, (4096,), F4)
    g[:512] = 0
    g[300] = number
    opt.update({"W": np.zeros(4096, F4)}, {"W": g})
    codes, scales = numbers_of(opt)["m"]["W"]
    expected = encoded(g, False)
    assert_same_bits(codes, expected[0])
    assert_same_bits(scales, expected[1])
    m = opt.state["m"]["W"]
    assert not m[:256].any()
    assert np.isfinite(m[512:]).all()
    assert np.isnan(m[256:512]).all() == (not np.isfinite(number))


def test_a_positive_root_is_never_zero(rng):
    """A step divides by it: a moment of zero beside one that is not would be a leap."""
    g = np.full(4096, 1e-9, F4)
    g[::256] = 1.0
    opt, params = Adam(**EIGHT), {"W": np.zeros(4096, F4)}
    for _ in range(5):
        opt.update(params, {"W": g})
        assert (opt.state["v"]["W"] > 0).all()


def test_no_order_of_work_changes_bits(rng, threads):
    shapes = {"b": (7,), "W": (300, 501), "least": (4097,)}
    first, grads = arrays(rng, shapes), [arrays(rng, shapes) for _ in range(4)]

    def state_of(opt):
        found = numbers_of(opt)
        return {slot: {k: (c.tobytes(), s.tobytes()) for k, (c, s) in own.items()} for slot, own in found.items()}

    assert_any_order_gives_the_same(lambda: Adam(lr=0.1, seed=3, **EIGHT), first, grads, threads, state_of)


@pytest.mark.parametrize("cls", [LAMB, Adam])
def test_shares_of_threads_meet_between_blocks(cls, rng, threads):
    """Arrays of all sizes, so that the work is cut anywhere: in passes over elements, and over blocks of sums."""
    shapes = {f"{i}": (size,) for i, size in enumerate((4096, 4097, 30_001, 5, 4351, 99_999, 4352))}
    first, grads = arrays(rng, shapes), arrays(rng, shapes)
    found = []
    for workers in 1, 2:
        threads(workers)
        params, opt = {name: p.copy() for name, p in first.items()}, cls(**EIGHT, statistics=("param_norm",))
        for _ in range(2):
            opt.update(params, grads)
        found.append((snapshot(opt, params), opt.last_statistics))
    assert found[0] == found[1]


def test_memory(rng):
    params, opt = {"W": np.zeros((1000, 1000), F4), "b": np.zeros(1000, F4)}, Adam(**EIGHT)
    assert opt.memory({"W": params["W"]}).state <= 2.03125 * 1e6 + 64
    opt.update(params, params)
    held = sum(codes.nbytes + scales.nbytes for own in numbers_of(opt).values() for codes, scales in own.values())
    assert opt.memory(params).state == held + 2 * 4000
    assert bytes_of_state(opt) < opt.memory(params).state + 1024


def test_what_is_read_is_a_copy(rng):
    params, opt = arrays(rng), Adam(**EIGHT)
    opt.update(params, params)
    m = opt.state["m"]["W"]
    assert m.dtype == F4
    with pytest.raises(ValueError, match="read-only"):
        m[...] = 0
    assert list(opt.state["m"]) == list(params)
    assert repr(opt.state["m"]).startswith("{'W': array(")
    opt.state["m"]["b"][...] = 3  # which has no codes
    assert (opt.state["m"]["b"] == 3).all()


@pytest.mark.parametrize("before", [None, "8bit", "bfloat16", "float16"])
@pytest.mark.parametrize("after", [None, "8bit", "bfloat16", "float16"])
def test_another_format(before, after, rng):
    """By an assignment, or by a state dict and `convert`: the same numbers, rounded to the nearest."""
    params, opt = arrays(rng), Adam(state_dtype=before)
    params["W"] = params["W"].copy("F")
    opt.update(params, arrays(rng))
    numbers = {slot: {name: np.array(x, F4) for name, x in opt.state[slot].items()} for slot in "mv"}
    other = Adam(state_dtype=after)
    if before != after:
        with pytest.raises(
            ValueError, match=r"slots\['m'\]\['(W|few)'\]: expected .*, as state_dtype says, got .*convert=True"
        ):
            other.load_state_dict(opt.state_dict(), hyperparameters=False)
        assert not other.state["m"]
    other.load_state_dict(opt.state_dict(), hyperparameters=False, convert=True)
    assigned = copy.deepcopy(opt)
    assigned.state_dtype = after
    for name in params:
        assert_state_same_bits(assigned, other, name)
        for slot in "mv":
            x, is_root = numbers[slot][name], slot == "v"
            if after == "8bit" and before != "8bit" and name in CODED:
                x = decoded(*encoded(x, is_root), is_root)
            elif after in ("bfloat16", "float16"):
                x = to_nearest(x, other.state[slot][name].dtype)
            assert_same_bits(np.ascontiguousarray(other.state[slot][name]), np.ascontiguousarray(x), f"{slot} {name}")
    grads = arrays(rng)
    ends = [{name: p.copy() for name, p in params.items()} for _ in range(2)]
    for each, own in zip((other, assigned), ends, strict=True):
        each.update(own, grads)
    assert_same_bits(*(np.ascontiguousarray(own["W"]) for own in ends))


def test_another_master(rng):
    params, opt = arrays(rng, dtype=BFLOAT16), Adam(master="float32")
    opt.update(params, params)
    other = Adam()
    with pytest.raises(
        ValueError, match="expected no master, which this optimizer does not keep; convert=True drops it"
    ):
        other.load_state_dict(opt.state_dict(), hyperparameters=False)
    other.load_state_dict(opt.state_dict(), hyperparameters=False, convert=True)
    assert other.masters is None
    again = Adam(master="float32")
    again.load_state_dict(other.state_dict(), hyperparameters=False)
    again.update(params, dict.fromkeys(params, None) | {"W": params["W"]})
    assert list(again.masters) == ["W"]


def test_checkpoints(rng, tmp_path):
    """Codes are U8, their scales F32 beside them; training goes on with the same bits."""
    safetensors = pytest.importorskip("safetensors.numpy", reason="checkpoints need the safetensors package")
    params, opt = arrays(rng), Adam(lr=0.1, **EIGHT)
    grads = [arrays(rng) for _ in range(4)]
    for step in grads[:2]:
        opt.update(params, step)
    fastoptim.save(tmp_path / "file", params, opt)
    found = safetensors.load_file(tmp_path / "file")
    assert_same_bits(found["slots/m/W"], numbers_of(opt)["m"]["W"][0])
    assert_same_bits(found["scales/v/least"], numbers_of(opt)["v"]["least"][1])
    assert "scales/m/few" not in found
    there, other = {name: np.zeros_like(p) for name, p in params.items()}, Adam()
    fastoptim.load(tmp_path / "file").restore(there, other)
    converted, single = {name: np.zeros_like(p) for name, p in params.items()}, Adam(lr=0.1)
    with pytest.raises(ValueError, match="convert=True"):
        fastoptim.load(tmp_path / "file").restore(converted, single, hyperparameters=False)
    fastoptim.load(tmp_path / "file").restore(converted, single, hyperparameters=False, convert=True)
    assert single.state["m"]["W"].flags.writeable
    assert_same_bits(single.state["m"]["W"], other.state["m"]["W"])
    for step in grads[2:]:
        opt.update(params, step)
        other.update(there, step)
    for name, p in params.items():
        assert_same_bits(there[name], p, name)
        assert_state_same_bits(opt, other, name)


def _changed(saved, path, value):
    *keys, last = path
    for key in keys:
        saved = saved[key]
    if value is None:
        del saved[last]
    else:
        saved[last] = value


DAMAGES = {
    "scales['m']: expected the names of all arrays of uint8, not in both: 'W'": (("scales", "m", "W"), None),
    "not in both: 'few'": (("scales", "m", "few"), np.ones(16, np.float32)),
    "scales['v']['W']: expected float32 (145,), got float32 (144,)": (("scales", "v", "W"), np.ones(144, np.float32)),
    "scales['v']['W']: expected float32 (145,), got float64 (145,)": (("scales", "v", "W"), np.ones(145)),
    "scales: expected names of slots, got 'k'": (("scales", "k"), {}),
    "scales: expected a mapping": (("scales",), 3),
    "slots['m']['W']: expected uint8, as state_dtype says": (("slots", "m", "W"), np.ones((37, 1000), np.float32)),
    "slots['v']['W']: expected float32 (37, 1000), as another slot has": (("slots", "v", "W"), np.ones(9, np.uint8)),
    "slots['m']['b']: expected float32, as state_dtype says, got uint8": (("slots", "m", "b"), np.ones(7, np.uint8)),
    "slots['m']['W']: expected dtype float32": (("slots", "m", "W"), np.ones((37, 1000), np.int8)),
}


@pytest.mark.parametrize("text", DAMAGES)
def test_damaged_state_dicts(text, rng):
    params, opt = arrays(rng), Adam(**EIGHT)
    opt.update(params, params)
    saved = copy.deepcopy(opt.state_dict())
    path, value = DAMAGES[text]
    _changed(saved, path, value)
    if path[1:] == ("m", "W") and path[0] == "slots":
        del saved["scales"]["m"]["W"]
    if path[1:] == ("m", "b"):
        saved["scales"]["m"]["b"] = np.ones(1, np.float32)
    if path[1:] == ("v", "W") and value.shape == (9,):
        saved["scales"]["v"]["W"] = np.ones(1, np.float32)
    before = snapshot(opt, params)
    with pytest.raises((TypeError, ValueError), match=re.escape(text)):
        opt.load_state_dict(saved)
    assert snapshot(opt, params) == before


@rule
def own_rule(p, g, h, mean, anchor, lr):
    h = h + g * g
    return p - lr * (g + mean) / (lr + sqrt(h)), h, g, anchor + lr


class Own(Optimizer):
    rule, slots = own_rule, ("h", "mean", "anchor")
    nonnegative_slots, parameter_slots = ("h",), ("anchor",)
    lr = nonnegative(0.1)

    def scalars(self, t):
        return (self.lr,)


def test_an_optimizer_of_ones_own(rng):
    steps_are_as_in_numpy(Own(**EIGHT), Own(), rng)
    with pytest.raises(TypeError, match=r"Wrong\.nonnegative_slots: expected a tuple of slots .*, found \('v',\)"):
        type("Wrong", (Own,), {"rule": own_rule, "slots": Own.slots, "nonnegative_slots": ("v",)})
    with pytest.raises(TypeError, match="expected 'h' to be nonnegative or a parameter, found it in both"):
        type(
            "Both",
            (Own,),
            {"rule": own_rule, "slots": Own.slots} | dict.fromkeys(("nonnegative_slots", "parameter_slots"), ("h",)),
        )


def test_declarations_that_are_inherited():
    """A class need not have all slots of the one it comes from, but what it says itself has to be right."""
    assert type("Fewer", (Adam,), {"variants": {}}).nonnegative_slots == ("v", "v_max")
    assert type("Again", (Adam,), {"rule": Adam.rule, "slots": ("m", "v")}).nonnegative_slots == ()
    for wrong in ("k",), "v", "vv":
        with pytest.raises(TypeError, match=r"Wrong\.nonnegative_slots: expected a tuple of slots"):
            type("Wrong", (Adam,), {"nonnegative_slots": wrong})


@rule
def add_momentum(p, g, m, v, lr):
    return p + lr * m


class Ahead(Adam):
    """Evaluated where its momentum points to: this reads codes."""

    variants, evaluation = {}, add_momentum

    def evaluation_scalars(self, t):
        return (self.lr,)


@pytest.mark.parametrize("how", ["loaded", "assigned"])
def test_codes_lie_in_c_order_whoever_reads_them_first(how, rng):
    params = {"W": np.asfortranarray(random(rng, (128, 64), F4))}
    opt = Ahead(**(EIGHT if how == "loaded" else {}))
    opt.update(params, {"W": random(rng, (128, 64), F4)})
    if how == "loaded":
        saved, opt = copy.deepcopy(opt.state_dict()), Ahead()
        opt.load_state_dict(saved)
    else:
        opt.state_dtype = "8bit"
    before, m = params["W"].copy(), opt.state["m"]["W"].copy()
    with opt.averaged(params):
        assert_same_bits(np.ascontiguousarray(params["W"]), np.ascontiguousarray(before + F4.type(opt.lr) * m))
    assert_same_bits(opt.state["m"]["W"], m)


@pytest.mark.parametrize("options", [EIGHT, {"state_dtype": "bfloat16", "rounding": "stochastic"}])
@pytest.mark.parametrize("cls", [Adam, LAMB])
def test_operands_are_rounded_by_bits_of_their_own(cls, options, rng):
    """The mean of many parameters moves as in float32: how m was rounded says nothing of how p is, in any stage."""
    size, ends = 2_000_000, {}
    for dtype in F4, BFLOAT16:
        params = {"w": np.full(size, 1.01, F4).astype(dtype)}
        before = params["w"].astype(F8).mean()
        grad = np.full(size, 0.28, F4)
        grad[::256] = 1.0
        cls(lr=1e-3, beta1=0.0, beta2=0.0, **options).update(params, {"w": grad})
        ends[dtype.name] = before - params["w"].astype(F8).mean()
    assert abs(ends["bfloat16"] / ends["float32"] - 1) < 0.01


def test_a_failed_assignment_changes_nothing(rng, monkeypatch):
    params, opt = arrays(rng), Adam()
    opt.update(params, params)

    def fails(*arguments):
        raise MemoryError

    monkeypatch.setattr("fastoptim.state.store.StateStore.with_format", fails)
    with pytest.raises(MemoryError):
        opt.state_dtype = "8bit"
    assert opt.state_dtype is None
    opt.update(params, params)


def test_refused_for_matrices(rng):
    params = arrays(rng)
    with pytest.raises(TypeError, match=r"state_dtype: expected None.*as Muon updates matrices"):
        Muon(**EIGHT).update(params, params)


def test_random_rounding_is_right_on_average(rng):
    """The mean of 10 million draws is within four times its standard error of the number; of both kinds of codes."""
    size, value = 10_000_000, 0.3
    g = np.full(size, value, F4)
    g[::256] = 1.0
    opt = Adam(beta1=0.0, beta2=0.0, **EIGHT)
    opt.update({"W": np.zeros(size, F4)}, {"W": g})
    for slot, mantissa in ("m", 3), ("v", 4):
        read = opt.state[slot]["W"].astype(F8)
        found = np.delete(read if slot == "m" else np.sqrt(read), np.s_[::256])
        below, above = np.unique(found)
        numbers, _ = table(mantissa)
        assert above - below == pytest.approx(np.diff(numbers).max() / numbers[-1] / 2, rel=0.01)
        part = (value - below) / (above - below)
        error = (above - below) * np.sqrt(part * (1 - part) / size)
        assert abs(found.mean() - value) < 4 * error


def test_a_moment_stalls_by_rounding_to_the_nearest_alone():
    """A step moves v by a part of 1/1000, where codes are a part of 1/8 apart."""
    ends = {}
    for rounding in "nearest", "stochastic":
        opt, params = Adam(**EIGHT, rounding=rounding), {"W": np.zeros(4096, F4)}
        for i in range(500):
            g = np.full(4096, 1.0 if i < 250 else 0.5, F4)
            g[::256] = 1.0  # so that the scale of a block does not follow
            opt.update(params, {"W": g})
        ends[rounding] = np.delete(opt.state["v"]["W"], np.s_[::256]).mean()
    plain, params = Adam(), {"W": np.zeros(1, F4)}
    for i in range(500):
        plain.update(params, {"W": np.full(1, 1.0 if i < 250 else 0.5, F4)})
    right = plain.state["v"]["W"][0]
    assert abs(ends["stochastic"] / right - 1) < 0.01
    assert abs(ends["nearest"] / right - 1) > 0.05


def test_off_by_default():
    assert Adam().rounding is None
    for cls in FEW:
        assert cls().hyperparameters()["state_dtype"] is None
    with pytest.raises(ValueError, match="state_dtype: expected"):
        SGD(state_dtype="4bit")
