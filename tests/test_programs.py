"""Random programs: names that come and go, options that are assigned, arrays that move, stops, and refused calls."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fastoptim
from fastoptim import SGD, Adam, FlatDict, schedules
from references import Reference
from support import LAYOUTS, assert_close, flat_like, random, snapshot

F4, F8 = np.float32, np.float64
SHAPES = {"W": (4, 3), "b": (3,), "s": (), "T": (2, 3, 2), "w 2": (5,), "none": (0, 2)}
DTYPES = {"W": F4, "b": F8, "s": F4, "T": F4, "w 2": F8, "none": F4}
# Each option with values to assign; the first is off.
VALUES = {
    "lr": [0.05, 0.1, schedules.linear(0.1, 0.01, steps=5), lambda step: 0.2 / (1 + step)],
    "weight_decay": [0.0, 0.25, schedules.exponential(0.5, 0.5)],
    "decoupled": [False, True],
    "cautious": [False, True],
    "bounds": [None, (-0.5, 0.75)],
    "nonnegative": [False, True],
    "clip_norm": [None, 0.5],
    "clip_value": [None, 0.4],
    "grad_scale": [1.0, 3.0],
    "skip_nonfinite": [False, True],
    "accumulate": [1, 2, 3],
    "ema": [None, 0.75],
    "maximize": [False, True],
    "zero_grads": [False, True],
    "groups": [None, {"w*": {"lr": 0.3}, "[Wb]": {"weight_decay": 0.125}}, {"*": {"lr": schedules.constant(0.2)}}],
    "frozen": [(), "w*", ("s", "T")],
}


class Program:
    """An optimizer and the reference, driven by draws."""

    def __init__(self, data, cls):
        self.draw, self.rng = data.draw, np.random.default_rng(data.draw(st.integers(0, 999)))
        self.options = self.options_drawn(4)
        self.opt = cls(**self.options)
        self.params = {name: random(self.rng, SHAPES[name], DTYPES[name]) for name in SHAPES}
        self.reference = Reference(self.opt, self.params, self.options)
        self.log = [dict(self.options)]

    def options_drawn(self, most):
        names = self.draw(st.lists(st.sampled_from(list(VALUES)), max_size=most, unique=True))
        chosen = {name: self.draw(st.sampled_from(VALUES[name])) for name in names}
        return {"lr": 0.05, **chosen} if most > 1 else chosen

    def value(self, name):
        return self.reference.options.get(name, VALUES[name][0])

    def assign(self):
        for name, value in self.options_drawn(1).items():
            self.log.append((name, value))
            setattr(self.opt, name, value)
            self.reference.options[name] = value
            if name == "ema" and value is None:
                self.reference.ema = {}

    def names_drawn(self):
        if self.value("frozen") or (self.value("groups") and not self.reference.steps.keys() >= {"W", "w 2"}):
            return list(SHAPES)  # where each pattern has a name
        some = self.draw(st.sampled_from([list(SHAPES)] * 2 + [["W", "b"], ["s", "T", "w 2"], ["none"]]))
        return self.draw(st.permutations(some)) if self.draw(st.booleans()) else some

    def gradients(self, names):
        grads = {}
        for name in names:
            dtype = self.draw(st.sampled_from([DTYPES[name], DTYPES[name], F4, F8]))
            make = LAYOUTS[self.draw(st.sampled_from(["C", "C", *LAYOUTS]))]
            missing = self.draw(st.integers(0, 7)) == 0
            grads[name] = None if missing else make(random(self.rng, SHAPES[name], dtype))
        if self.value("skip_nonfinite") and self.draw(st.integers(0, 3)) == 0:
            for g in grads.values():
                if g is not None and g.size:
                    g.flat[-1] = np.nan
                    break
        return grads

    def update(self):
        names = self.names_drawn()
        grads = self.gradients(names)
        self.log.append(("update", names, [name for name in names if grads[name] is None]))
        held, self.reference.params = self.reference.params, {name: self.reference.params[name] for name in names}
        self.reference.update({name: None if g is None else g.copy() for name, g in grads.items()})
        self.reference.params = held | self.reference.params
        params, grads = self.in_place(names, grads)
        self.opt.update(params, grads)
        if self.value("zero_grads"):
            frozen = self.reference.is_frozen
            assert all(g is None or frozen(name) or not g.any() for name, g in grads.items()), self.log

    def refused(self):
        names = [*self.names_drawn(), "b"]
        grads = {name: np.zeros(SHAPES[name], DTYPES[name]) for name in names}
        wrong = self.draw(st.sampled_from([np.ones(4), np.ones(3, int), np.ma.ones(3), "gone"]))
        params = {name: self.params[name] for name in names}
        grads["b"] = wrong
        if isinstance(wrong, str):
            del grads["b"]
        before = snapshot(self.opt, self.params)
        with pytest.raises((TypeError, ValueError, KeyError), match="'b'"):
            self.opt.update(params, grads)
        assert snapshot(self.opt, self.params) == before, self.log

    def flatten(self):
        self.params = fastoptim.flatten(self.params)

    def in_place(self, names, grads):
        """What `update` gets: the arrays of these names or, where all take part, the flat buffers themselves."""
        if not isinstance(self.params, FlatDict) or names != list(SHAPES):
            return {name: self.params[name] for name in names}, grads
        if any(g is None for g in grads.values()) or self.draw(st.booleans()):
            return self.params, grads
        return self.params, flat_like(self.params, grads)

    def move(self):
        self.params = dict(self.params)
        name = self.draw(st.sampled_from(list(SHAPES)))
        make = LAYOUTS[self.draw(st.sampled_from(list(LAYOUTS)))]
        self.params[name] = make(self.params[name])

    def stop(self):
        how = self.draw(st.sampled_from(["copy", "pickle", "dict"]))
        self.log.append(how)
        if how == "copy" or self.value("lr") is VALUES["lr"][-1]:  # which is no data
            self.opt = copy.deepcopy(self.opt)
        elif how == "pickle":
            self.opt = pickle.loads(pickle.dumps(self.opt))
        else:
            twin = type(self.opt)()
            twin.load_state_dict(self.opt.state_dict())
            self.opt = twin
        self.reference.opt = self.opt

    def averages(self):
        if self.opt.averages and set(self.opt.averages) >= set(SHAPES):
            before = snapshot(self.opt, self.params)
            with self.opt.averaged(self.params):
                pass
            assert snapshot(self.opt, self.params) == before

    def assert_close(self, actual, expected, what):
        """Where the norm of all gradients clips them, those in float32 limit how exact others are."""
        clipped = any("clip_norm" in entry for entry in self.log)
        assert_close(np.asarray(actual, F4 if clipped else actual.dtype), expected, f"{what} {self.log}")

    def check(self):
        opt, reference, log = self.opt, self.reference, self.log
        saved = opt.state_dict()
        assert (opt.iter, opt.skipped) == (reference.iter, reference.skipped), log
        assert saved["micro_steps"] == reference.micro_steps, log
        assert {name: n for name, n in saved["steps"].items() if n} == reference.steps, log
        for name, p in self.params.items():
            self.assert_close(p, reference.params[name], name)
            for slot in opt.slots if name in reference.steps else ():
                self.assert_close(opt.state[slot][name], reference.state[name][slot], f"{slot} {name}")
        for name, average in reference.ema.items():
            self.assert_close(opt.averages[name], average, f"average of {name}")
        assert (opt.averages is None) == (self.value("ema") is None)


@pytest.mark.parametrize("cls", [SGD, Adam])
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_random_programs(cls, data):
    program = Program(data, cls)
    program.update()
    program.check()
    for _ in range(data.draw(st.integers(3, 14))):
        action = data.draw(
            st.sampled_from(["update"] * 6 + ["assign", "assign", "move", "flatten", "stop", "refused", "averages"])
        )
        getattr(program, action)()
        program.check()
