"""Another library's training made faster: scikit-learn's `MLPClassifier`, whose Adam is replaced by fastoptim's.

    python examples/other_library.py
    python examples/other_library.py --layers 256 128

`MLPClassifier` computes gradients with NumPy and gives them to an optimizer, as two lists of arrays. `update` takes
lists, too, so that a class of three short methods is all that is needed. scikit-learn's own Adam makes about
ten new arrays for each array of the network, in every step. Both trainings begin with the same weights and see the same
batches. The script prints what each reaches, and how long the updates and the whole trainings take.

The same works wherever there are arrays of parameters and of gradients. With autograd, for example:

    opt.update(params, autograd.grad(loss)(params, batch))
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits  # which scikit-learn brings

import fastoptim


class Updates:
    """What `MLPClassifier` asks of an optimizer."""

    def __init__(self, opt):
        self.opt = opt

    def update_params(self, params, grads):
        self.opt.update(params, grads)

    def iteration_ends(self, time_step):
        """scikit-learn's own would change the learning rate here. fastoptim has schedules for that."""

    def trigger_stopping(self, message, verbose):
        return True


def timed(function, seconds):
    """The function, which also notes how long each call takes."""

    def call(*arguments):
        begin = perf_counter()
        function(*arguments)
        seconds.append(perf_counter() - begin)

    return call


def train(opt, options, x, y):
    """Train with `opt`, or with scikit-learn's Adam where it is None. Return the network and two times in seconds."""
    net = MLPClassifier(options.layers, batch_size=32, learning_rate_init=options.lr, random_state=options.seed)
    if opt is not None:
        net._optimizer = Updates(opt)  # noqa: SLF001 - a private name, but `partial_fit` keeps what it finds there
    net.partial_fit(x, y, classes=np.unique(y))  # an epoch that is not measured: fastoptim may compile its kernel here
    seconds = []
    net._optimizer.update_params = timed(net._optimizer.update_params, seconds)  # noqa: SLF001 - as above
    begin = perf_counter()
    for _ in range(options.epochs - 1):
        net.partial_fit(x, y)
    return net, np.median(seconds), perf_counter() - begin


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", default=[512, 512], help="sizes of the hidden layers")
    parser.add_argument("--epochs", type=int, default=10, help="times through the data")
    parser.add_argument("--lr", type=float, default=0.001, help="Adam's learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the images")
    options = parser.parse_args(arguments)
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(options.seed).permutation(len(images))
    images, labels = np.float32(images[order] / 16), labels[order]
    x, y, test_x, test_y = images[360:], labels[360:], images[:360], labels[:360]
    print(f"{'':<14}{'loss':>10}{'test accuracy':>16}{'update':>12}{'training':>12}")
    curves = {}
    # scikit-learn's Adam is the form of the paper's section 2, which is fastoptim's default, with another eps.
    for name, opt in ("scikit-learn", None), ("fastoptim", fastoptim.Adam(options.lr, eps=1e-8)):
        with threadpool_limits(1, "blas"):  # the products' threads would wait, spinning, and disturb the updates' ones
            net, update, training = train(opt, options, x, y)
        accuracy = net.score(test_x, test_y)
        print(f"{name:<14}{net.loss_:>10.5f}{accuracy:>16.1%}{1e6 * update:>9.0f} us{training:>10.1f} s", flush=True)
        curves[name] = net.loss_curve_
    return curves


if __name__ == "__main__":
    main()
