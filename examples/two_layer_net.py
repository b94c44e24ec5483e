"""A network of two layers learns handwritten digits, with the optimizer that you name.

    python examples/two_layer_net.py --optimizer momentum
    python examples/two_layer_net.py --compare --plot losses.png

The network is the one that NumPy courses begin with: a dict of parameters, a dict of gradients with the same names, and
an optimizer that takes both. The digits are those that scikit-learn brings, 8 x 8 pixels each. The script prints the
loss and the test accuracy, 97 to 99 % at the end. `--compare` trains the same network with every optimizer.
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from contextlib import nullcontext

import numpy as np
from sklearn.datasets import load_digits

import fastoptim

BATCH, HIDDEN = 64, 50
# Learning rates that suit this task; 0.005 for all others.
RATES = {"adadelta": 1, "lars": 1, "prodigy": 1, "schedulefreesgd": 1, "sgd": 0.3, "asgd": 0.3, "momentum": 0.1}
RATES |= {"nesterov": 0.1, "adafactor": 0.05, "adagrad": 0.03, "lamb": 0.02, "muon": 0.02, "rprop": 0.01, "lion": 0.001}


class TwoLayerNet:
    def __init__(self, inputs, hidden, outputs, rng):
        self.params = {
            "W1": rng.standard_normal((inputs, hidden), np.float32) * (2 / inputs) ** 0.5,
            "b1": np.zeros(hidden, np.float32),
            "W2": rng.standard_normal((hidden, outputs), np.float32) * (2 / hidden) ** 0.5,
            "b2": np.zeros(outputs, np.float32),
        }

    def forward(self, x):
        hidden = np.maximum(x @ self.params["W1"] + self.params["b1"], 0)
        return hidden, hidden @ self.params["W2"] + self.params["b2"]

    def gradients(self, x, labels):
        """The mean cross-entropy, and its gradient for every parameter."""
        hidden, scores = self.forward(x)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(len(x)), labels] + 1e-7).mean()
        at_scores = (p - np.eye(p.shape[1], dtype=p.dtype)[labels]) / len(x)
        at_hidden = at_scores @ self.params["W2"].T * (hidden > 0)
        return loss, {"W1": x.T @ at_hidden, "b1": at_hidden.sum(0), "W2": hidden.T @ at_scores, "b2": at_scores.sum(0)}

    def accuracy(self, x, labels):
        return float((self.forward(x)[1].argmax(axis=1) == labels).mean())


def train(name, options):
    """Train the seed's network with one optimizer; return the loss of each epoch and the test accuracy."""
    rng = np.random.default_rng(options.seed)
    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(images))
    images, labels = np.float32(images[order] / 16), labels[order]
    test, x, y = (images[:360], labels[:360]), images[360:], labels[360:]
    net = TwoLayerNet(64, HIDDEN, 10, rng)
    opt = fastoptim.get(name, lr=options.lr or RATES.get(name.lower(), 0.005))
    losses = []
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        for batch in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
            loss, grads = net.gradients(x[batch], y[batch])
            opt.update(net.params, grads)  # plain SGD: for k in params: params[k] -= lr * grads[k]
            total += loss * len(batch)
        losses.append(total / len(x))
        if epoch % 10 == 0 or epoch == options.epochs:
            with opt.averaged(net.params) if opt.evaluation else nullcontext():  # as schedule-free ones need it
                accuracy = net.accuracy(*test)
            print(f"{name:<17} epoch {epoch:>3}   loss {losses[-1]:.4f}   test accuracy {accuracy:.1%}")
    return losses, accuracy


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--optimizer", default="adam", help="one of " + ", ".join(fastoptim.optimizers()))
    parser.add_argument("--compare", action="store_true", help="train with every optimizer in turn")
    parser.add_argument("--lr", type=float, help="learning rate; if not given, one that suits the optimizer")
    parser.add_argument("--epochs", type=int, default=40, help="times through the data")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order of the images")
    parser.add_argument("--plot", metavar="FILE.png", help="write the loss curves (needs matplotlib)")
    options = parser.parse_args(arguments)
    trained = {x: train(x, options) for x in (fastoptim.optimizers() if options.compare else [options.optimizer])}
    if options.plot:
        from matplotlib.figure import Figure

        axes = Figure(layout="constrained").subplots()
        for name, (losses, accuracy) in trained.items():
            axes.semilogy(losses, label=f"{name} {accuracy:.1%}")
        axes.set(xlabel="epoch", ylabel="training loss")
        axes.legend()
        axes.figure.savefig(options.plot)
    return {name: accuracy for name, (_, accuracy) in trained.items()}


if __name__ == "__main__":
    main()
