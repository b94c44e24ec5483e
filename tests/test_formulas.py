"""Parameters and state against the float64 references: every optimizer, dtype and layout."""

from itertools import cycle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastoptim
from references import REFERENCES, WITH_REFERENCE, Reference
from support import DTYPES, LAYOUTS, OPTIMIZERS, SHAPES, assert_close, assert_state_close, flat_like, random
from variants import VARIANTS, continuous, kind_of, own_hyperparameters

STEPS = 8  # RAdam adapts its steps from the sixth on
CASES = [(cls, variant) for cls in WITH_REFERENCE for variant in [{}, *VARIANTS[cls.__name__]]]


def test_every_optimizer_has_a_reference():
    without = {cls.__name__ for cls in OPTIMIZERS} - set(REFERENCES)
    assert not without, f"no formula in tests/formulas_*.py: {', '.join(sorted(without))}"
    assert {cls.__name__ for cls in OPTIMIZERS} == set(REFERENCES)


def test_every_number_of_an_optimizer_is_varied():
    for cls in OPTIMIZERS:
        (numbers, *switched), defaults = VARIANTS[cls.__name__], own_hyperparameters(cls)
        assert all(numbers[name] != default for name, default in defaults.items() if type(default) in (int, float))
        assert {name for variant in [numbers, *switched] for name in variant} == {
            name for name in defaults if kind_of(cls, name) != "other"
        }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cls", "variant"), CASES, ids=str)
@pytest.mark.parametrize("is_flat", [False, True], ids=["dict", "flat"])
def test_formula(cls, variant, dtype, is_flat):
    """The arrays of a dict lie in memory in different ways. That any of them gives the same bits is another test's."""
    rng = np.random.default_rng(3)
    params = {str(shape): random(rng, shape, dtype) for shape in SHAPES}
    if is_flat:
        params = fastoptim.flatten(params)
    else:
        params = {name: make(p) for make, (name, p) in zip(cycle(LAYOUTS.values()), params.items(), strict=False)}
    opt = cls(**continuous(cls) | variant)
    reference = Reference(opt, params)
    for _ in range(STEPS):
        grads = {name: random(rng, p.shape, dtype) for name, p in params.items()}
        reference.update(grads)
        assert opt.update(params, flat_like(params, grads) if is_flat else grads) is None
    assert opt.iter == STEPS
    for name, p in params.items():
        assert_close(p, reference.params[name], name)
        assert p.dtype == dtype
        assert_state_close(opt, name, p, reference.state[name])


arrays = st.tuples(
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    st.sampled_from(DTYPES),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.sampled_from(sorted(LAYOUTS)),
    st.sampled_from(sorted(LAYOUTS)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cls=st.sampled_from(WITH_REFERENCE),
    described=st.dictionaries(st.one_of(st.text(), st.integers()), arrays, max_size=6),
    data=st.data(),
)
def test_any_mixture_of_arrays(cls, described, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    opt = cls(lr=0.01, **continuous(cls))
    params = {k: LAYOUTS[own](random(rng, shape, dtype)) for k, (shape, dtype, _, own, _) in described.items()}
    held = dict(params)
    reference = Reference(opt, params)
    for _ in range(3):
        order = data.draw(st.permutations(list(described)))
        grads = {k: LAYOUTS[described[k][4]](random(rng, described[k][0], described[k][2])) for k in order}
        reference.update(grads)
        opt.update({k: params[k] for k in data.draw(st.permutations(list(params)))}, grads)
    for k, p in held.items():
        assert params[k] is p
        assert_close(p, reference.params[k])
        assert_state_close(opt, k, p, reference.state[k])
