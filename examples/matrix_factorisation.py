"""Which film would one like? Factors of users and films are learnt from the few ratings that are known.

    python examples/matrix_factorisation.py
    python examples/matrix_factorisation.py --known 0.2 --plot rmse.png

A rating is a mean, a bias of the user, a bias of the film, and the product of two vectors of tastes. The ratings are
made up in that way, with noise. So we know what the best model could reach: an error (RMSE) on the hidden ratings as
large as the noise. The script prints the errors while it trains, and ends about 8 % above the noise.
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

import numpy as np

import fastoptim


def made_up(options, rng):
    """A table of ratings, users x films; True where we know the rating; True where we test."""
    users, films, rank = options.users, options.films, options.rank
    tastes = rng.standard_normal((users, rank), np.float32) @ rng.standard_normal((rank, films), np.float32)
    biases = 0.5 * rng.standard_normal((users, 1), np.float32) + 0.5 * rng.standard_normal((1, films), np.float32)
    noise = options.noise * rng.standard_normal((users, films), np.float32)
    known = rng.random((users, films)) < options.known
    return 3 + biases + tastes / (2 * rank**0.5) + noise, known, ~known


def errors(params, ratings):
    """Prediction minus rating, everywhere."""
    predicted = params["users"] @ params["films"].T
    predicted += params["user_bias"] + params["film_bias"] + params["mean"]
    return predicted - ratings


def gradients(params, error):
    """Of half the sum of the squared errors."""
    return {
        "users": error @ params["films"],
        "films": error.T @ params["users"],
        "user_bias": error.sum(axis=1, keepdims=True),
        "film_bias": error.sum(axis=0, keepdims=True),
        "mean": error.sum(keepdims=True),
    }


def rmse(error, where):
    return float(np.sqrt(np.mean(error[where] ** 2)))


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--users", type=int, default=2000, help="how many there are")
    parser.add_argument("--films", type=int, default=1000, help="how many there are")
    parser.add_argument("--rank", type=int, default=8, help="numbers in a vector of tastes")
    parser.add_argument("--known", type=float, default=0.1, help="part of the ratings that is known")
    parser.add_argument("--noise", type=float, default=0.5, help="standard deviation of the noise")
    parser.add_argument("--steps", type=int, default=200, help="steps of the optimizer, each on all known ratings")
    parser.add_argument("--lr", type=float, default=0.03, help="Adam's learning rate")
    parser.add_argument("--decay", type=float, default=1.0, help="weight decay of the factors")
    parser.add_argument("--seed", type=int, default=0, help="of the ratings and the first factors")
    parser.add_argument("--plot", metavar="FILE.png", help="write the errors' curves (needs matplotlib)")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    ratings, known, hidden = made_up(options, rng)
    params = {
        "users": 0.1 * rng.standard_normal((options.users, options.rank), np.float32),
        "films": 0.1 * rng.standard_normal((options.films, options.rank), np.float32),
        "user_bias": np.zeros((options.users, 1), np.float32),
        "film_bias": np.zeros((1, options.films), np.float32),
        "mean": ratings[known].mean().reshape(1, 1),
    }
    # Plain NumPy would need a line for the factors' decay, and Adam's four lines in a loop over the arrays.
    no_decay = {"weight_decay": 0.0}
    opt = fastoptim.Adam(lr=options.lr, weight_decay=options.decay, groups={"*_bias": no_decay, "mean": no_decay})
    curves = []
    for step in range(options.steps + 1):
        error = errors(params, ratings)
        if step % 10 == 0:
            curves.append((rmse(error, known), rmse(error, hidden)))
            print(f"step {step:>4}   RMSE known {curves[-1][0]:.3f}   hidden {curves[-1][1]:.3f}", flush=True)
        opt.update(params, gradients(params, error * known))
    print(f"The noise is {options.noise}. No model has a smaller error than that on hidden ratings.")
    if options.plot:
        from matplotlib.figure import Figure

        axes = Figure(layout="constrained").subplots()
        axes.plot(range(0, options.steps + 1, 10), curves, label=("known", "hidden"))
        axes.axhline(options.noise, color="black", linestyle=":", label="noise")
        axes.set(xlabel="step", ylabel="RMSE")
        axes.legend()
        axes.figure.savefig(options.plot)
    return curves[-1][1]


if __name__ == "__main__":
    main()
