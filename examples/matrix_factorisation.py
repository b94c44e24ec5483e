"""Which film would one like? Factors of users and films are learnt from the few ratings that are known.

    python examples/matrix_factorisation.py
    python examples/matrix_factorisation.py --known 0.2 --plot rmse.png

A rating is a mean, a bias of the user, a bias of the film, and the product of two vectors of tastes. The ratings are
made up in that way, with noise. So we know what the best model could reach: an error (RMSE) on the hidden ratings as
large as the noise. The script prints the errors while it trains, and ends about 8 % above the noise.

A step takes a batch of known ratings. The users and films in it have gradients, `fastoptim.Rows`, and decay; no others.
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
    predicted += params["user_bias"][:, None] + params["film_bias"] + params["mean"]
    return predicted - ratings


def gradients(params, user, film, rating):
    """Of half the mean of the squared errors of these ratings."""
    u, f = params["users"][user], params["films"][film]
    predicted = (u * f).sum(axis=1) + params["user_bias"][user] + params["film_bias"][film] + params["mean"]
    error = (predicted - rating) / np.float32(len(rating))
    of_users = {"users": fastoptim.Rows(user, error[:, None] * f), "user_bias": fastoptim.Rows(user, error)}
    of_films = {"films": fastoptim.Rows(film, error[:, None] * u), "film_bias": fastoptim.Rows(film, error)}
    return {**of_users, **of_films, "mean": error.sum(keepdims=True)}


def rmse(error, where):
    return float(np.sqrt(np.mean(error[where] ** 2)))


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--users", type=int, default=2000, help="how many there are")
    parser.add_argument("--films", type=int, default=1000, help="how many there are")
    parser.add_argument("--rank", type=int, default=8, help="numbers in a vector of tastes")
    parser.add_argument("--known", type=float, default=0.1, help="part of the ratings that is known")
    parser.add_argument("--noise", type=float, default=0.5, help="standard deviation of the noise")
    parser.add_argument("--epochs", type=int, default=20, help="times through the known ratings")
    parser.add_argument("--batch", type=int, default=10_000, help="ratings in a step")
    parser.add_argument("--lr", type=float, default=0.03, help="Adam's learning rate")
    parser.add_argument("--decay", type=float, default=1e-5, help="weight decay of the factors in a batch")
    parser.add_argument("--seed", type=int, default=0, help="of the ratings and the first factors")
    parser.add_argument("--plot", metavar="FILE.png", help="write the errors' curves (needs matplotlib)")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    ratings, known, hidden = made_up(options, rng)
    params = {
        "users": 0.1 * rng.standard_normal((options.users, options.rank), np.float32),
        "films": 0.1 * rng.standard_normal((options.films, options.rank), np.float32),
        "user_bias": np.zeros(options.users, np.float32),
        "film_bias": np.zeros(options.films, np.float32),
        "mean": ratings[known].mean(keepdims=True),
    }
    no_decay = {"weight_decay": 0.0}
    opt = fastoptim.Adam(lr=options.lr, weight_decay=options.decay, groups={"*_bias": no_decay, "mean": no_decay})
    curves, every = [], np.argwhere(known)
    for epoch in range(options.epochs + 1):
        error = errors(params, ratings)
        curves.append((rmse(error, known), rmse(error, hidden)))
        print(f"epoch {epoch:>3}   RMSE known {curves[-1][0]:.3f}   hidden {curves[-1][1]:.3f}", flush=True)
        rng.shuffle(every)
        for start in range(0, len(every), options.batch):
            user, film = every[start : start + options.batch].T
            opt.update(params, gradients(params, user, film, ratings[user, film]))
    print(f"The noise is {options.noise}. No model has a smaller error than that on hidden ratings.")
    if options.plot:
        from matplotlib.figure import Figure

        axes = Figure(layout="constrained").subplots()
        axes.plot(curves, label=("known", "hidden"))
        axes.axhline(options.noise, color="black", linestyle=":", label="noise")
        axes.set(xlabel="epoch", ylabel="RMSE")
        axes.legend()
        axes.figure.savefig(options.plot)
    return curves[-1][1]


if __name__ == "__main__":
    main()
