"""Thousands of small trainings at once: a whole training loop within `numba.njit`, which calls fastoptim's kernel.

    python examples/njit_loop.py
    python examples/njit_loop.py --fits 50000 --plot bootstrap.png

How sure is a logistic regression of its coefficients? The bootstrap (Efron 1979) answers by fitting it again and again,
each time to examples that are drawn from the data with repetition. Each fit is a training of its own with Adam, and the
threads share the fits. The script prints the spread of every coefficient beside the standard error that theory gives
for large data. It also measures a few fits in plain NumPy, which take more than ten times as long.
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from time import perf_counter

import numba
import numpy as np
from numba.extending import register_jitable

import fastoptim

adam = fastoptim.Adam.kernels.cpu_serial  # adam(p, g, state, scalars) makes a step, on the thread that calls it


@register_jitable  # a function of Python that `numba.njit` compiles where it is called
def sigmoid(score):
    return np.float32(1) / (np.float32(1) + np.exp(-score))


@numba.njit(parallel=True)
def fit_all(x, y, weights, scalars):
    """One fit for each row of `weights`, which says how often an example counts; row t of `scalars` is for step t."""
    fits = np.zeros((len(weights), x.shape[1]), np.float32)
    for k in numba.prange(len(weights)):
        p, g, state = fits[k], np.empty(x.shape[1], np.float32), np.zeros((2, x.shape[1]), np.float32)
        for t in range(len(scalars)):
            g[:] = 0
            for i in range(len(x)):
                score = np.float32(0)
                for j in range(len(p)):
                    score += x[i, j] * p[j]
                error = weights[k, i] * (sigmoid(score) - y[i])
                for j in range(len(p)):
                    g[j] += error * x[i, j]
            adam(p, g, state, scalars[t])
    return fits


def fit_in_numpy(x, y, weights, scalars):
    """The same for one fit: some 20 calls a step, on small arrays."""
    p, m, v = np.zeros((3, x.shape[1]), np.float32)
    for step_size, one_minus_beta1, one_minus_beta2, eps in scalars:
        g = (weights * (sigmoid(x @ p) - y)) @ x
        m += one_minus_beta1 * (g - m)
        v += one_minus_beta2 * (g * g - v)
        p -= step_size * m / (np.sqrt(v) + eps)
    return p


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--fits", type=int, default=5000, help="how often to fit")
    parser.add_argument("--examples", type=int, default=100, help="examples in the data")
    parser.add_argument("--seed", type=int, default=0, help="of the data and the draws")
    parser.add_argument("--plot", metavar="FILE.png", help="write histograms of the coefficients (needs matplotlib)")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    true = np.array([-1.0, -0.5, 0.0, 0.5, 1.0], np.float32)
    x = rng.standard_normal((options.examples, len(true)), np.float32)
    y = np.float32(rng.random(len(x)) < sigmoid(x @ true))
    weights = np.float32(rng.multinomial(options.examples, np.ones(len(x)) / len(x), size=options.fits))
    opt = fastoptim.Adam(lr=0.1)  # the numbers of a step depend on t alone, so that one array serves all fits
    scalars = np.array([opt.scalars(t) for t in range(1, 301)], np.float32)
    fit_all(x, y, weights[:1], scalars)  # compiles it, which takes some seconds
    begin = perf_counter()
    fits = fit_all(x, y, weights, scalars)
    compiled = (perf_counter() - begin) / len(fits)
    begin = perf_counter()
    for row in weights[:10]:
        fit_in_numpy(x, y, row, scalars)
    plain = (perf_counter() - begin) / 10
    print(f"{len(fits):,} fits, {1e6 * compiled:.0f} us each. In NumPy {1e6 * plain:.0f} us, {plain / compiled:.0f} x")
    p = sigmoid(x @ fits.mean(axis=0))
    theory = np.sqrt(np.diag(np.linalg.inv(x.T * (p * (1 - p)) @ x)))
    print("coefficient   95 % of the fits   spread   theory")
    for row in zip(true, *np.percentile(fits, [2.5, 97.5], axis=0), fits.std(axis=0), theory, strict=True):
        print("{:>11.1f}   {:>7.2f} ... {:>5.2f}   {:>6.3f}   {:>6.3f}".format(*row))
    if options.plot:
        from matplotlib.figure import Figure

        axes = Figure(layout="constrained").subplots()
        axes.hist(fits, bins=100, histtype="step", label=[f"true: {coefficient:.1f}" for coefficient in true])
        axes.legend()
        axes.figure.savefig(options.plot)
    return fits.std(axis=0) / theory


if __name__ == "__main__":
    main()
