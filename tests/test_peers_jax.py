"""The table of equivalents in the documentation, against Optax and Keras on JAX: skipped where one is not installed.

Every parameter has a gradient in every step. JAX compiles all steps as one loop.
"""

from contextlib import contextmanager

import pytest

from peers import RATES, Case, rows, stacked


@pytest.fixture
def jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    return pytest.importorskip("jax", reason="compares with a library on JAX, which is not installed")


def after_each_step(jax, step, start, grads):
    """The parameters. Compiling takes nearly all of the time, so the compiler is told to optimize little."""
    scan = jax.jit(lambda *x: jax.lax.scan(step, *x), compiler_options={"xla_backend_optimization_level": 0})
    return scan(start, grads)[1]


@rows("optax")
def test_optax(row, key, jax):
    case = Case(row, key)
    with jax.enable_x64(case.dtype == "float64"):
        rates = jax.numpy.asarray(RATES, case.dtype)
        peer = case.theirs(**({"lr": lambda step: rates[step]} if case.changes else {}))
        params = jax.tree.map(jax.numpy.asarray, case.params)

        def step(carry, grads):
            params, state = carry
            updates, state = peer.update(grads, state, params)
            params = case.module.apply_updates(params, updates)
            return (params, state), params

        path = after_each_step(jax, step, (params, peer.init(params)), stacked(case.steps))
    case.compare(path)


@rows("keras")
def test_keras(row, key, jax):
    case = Case(row, key)
    import keras

    with jax.enable_x64(case.dtype == "float64"), floatx(keras, case.dtype.name):
        rates = jax.numpy.asarray(RATES, case.dtype)

        class Rates(keras.optimizers.schedules.LearningRateSchedule):
            def __call__(self, step):
                return rates[step.value]

        peer = case.theirs(**({"lr": Rates()} if case.changes else {}))
        params = {name: keras.Variable(p, name=name) for name, p in case.params.items()}
        peer.build(list(params.values()))
        start = [x.value for x in params.values()], [x.value for x in peer.variables]

        def step(carry, grads):
            params, state = carry
            params, state = peer.stateless_apply(state, grads, params)
            return (params, state), params

        path = after_each_step(jax, step, start, list(stacked(case.steps).values()))
    case.compare(dict(zip(params, path, strict=True)))


@contextmanager
def floatx(keras, name):
    """Keras takes this dtype for its learning rate."""
    before = keras.config.floatx()
    keras.config.set_floatx(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before)
