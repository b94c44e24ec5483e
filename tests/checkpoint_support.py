"""What the tests of checkpoints share: an optimizer that only has a state, examples, strategies, comparisons."""

import copy

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, settings

from fastoptim.checkpoint import load
from support import assert_same_bits


class FakeOptimizer:
    """Has the states that optimizers have, and refuses one when it is told to."""

    def __init__(self, state, refuses=False):
        self.state, self.refuses = state, refuses

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        if self.refuses:
            raise ValueError("refused")
        self.state = copy.deepcopy(state)


def example(fill=1.0, size=7):
    params = {"W/1": np.full((size, 3), fill, np.float32), "b": np.full(size, fill), "": np.array(fill)}
    state = {
        "optimizer": "Adam",
        "hyperparameters": {"lr": 0.1, "amsgrad": False, "clip": None},
        "iter": 2**70,
        "skipped": 0,
        "calls": 5,
        "steps": dict.fromkeys(params, 3),
        "slots": {slot: {name: np.asarray(array * 2) for name, array in params.items()} for slot in "mv"},
        "scales": {"v": {"b": np.full(1, fill, np.float32)}},
        "ema": {"W/1": params["W/1"] + 1},
        "compensation": {"b": params["b"].astype(np.float16)},
        "gradients": {},
    }
    state["slots"]["v"]["b"] = np.arange(size, dtype=np.uint8)
    return params, state


def assert_same(actual, expected, what=""):
    """The same types, numbers and order, all the way down; arrays bit for bit."""
    if isinstance(expected, np.ndarray):
        assert_same_bits(actual, expected, what)
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), what
        for key in expected:
            assert_same(actual[key], expected[key], f"{what}[{key!r}]")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), what
        for i, (mine, other) in enumerate(zip(actual, expected, strict=True)):
            assert_same(mine, other, f"{what}[{i}]")
    else:
        assert type(actual) is type(expected), what
        assert actual == expected or actual != actual != expected != expected, what


def assert_loads(path, params, state, metadata):
    found = load(path)
    assert_same(found.params, dict(params))
    if state is None:
        assert found.optimizer is None
    else:
        assert_same({**state, **found.optimizer}, state)
        assert found.optimizer.keys() == state.keys()
    assert_same(found.metadata, metadata)
    return found


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
here = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
