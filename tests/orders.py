"""What must not change a bit: threads, layouts, flat or a dict, the order of names, and interruptions."""

import copy
import pickle

import numpy as np

import fastoptim
from support import LAYOUTS


def trained(opt, params, grads, order=lambda named: named, interrupt=lambda opt: opt, state_of=lambda opt: None):
    """The bytes of parameters after steps with these gradients, and what `state_of` returns of the optimizer."""
    for step in grads:
        if isinstance(params, fastoptim.FlatDict):
            own = params.zeros_like()
            for name, g in step.items():
                own[name][...] = g
        else:
            own = order(step)
        opt.update(order(params), own)
        opt = interrupt(opt)
    return {name: np.ascontiguousarray(p).tobytes() for name, p in params.items()}, state_of(opt)


def by_state_dict(opt):
    other = type(opt)()
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    return other


def assert_any_order_gives_the_same(make, first, grads, threads, state_of=lambda opt: None):
    """Train in every order of work; returns the parameters' bytes.

    Args:
        make: makes an optimizer.
        first: the parameters at first.
        grads: of each step.
        threads: the fixture.
        state_of: from an optimizer to what else must be the same.
    """

    def end(params, **how):
        return trained(make(), params, grads, state_of=state_of, **how)

    def fresh():
        return {name: p.copy() for name, p in first.items()}

    expected = end(fresh())
    threads(1)
    assert end(fresh()) == expected
    threads(2)
    for layout in LAYOUTS.values():
        assert end({name: layout(p) for name, p in fresh().items()}) == expected
    assert end(fresh(), order=lambda named: dict(reversed(named.items()))) == expected
    for interrupt in (lambda opt: pickle.loads(pickle.dumps(opt))), copy.deepcopy, by_state_dict:
        assert end(fresh(), interrupt=interrupt) == expected
    assert end(fastoptim.flatten(first)) == expected
    return expected[0]
