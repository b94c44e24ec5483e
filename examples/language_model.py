"""A language model in low precision: how little memory the parameters and the state may take without a loss.

    python examples/language_model.py
    python examples/language_model.py --steps 2000 --hidden 512

A network learns which symbol follows the last three, from text that is made up: each symbol depends on the two before.
It is trained again in each precision, on the same batches. The script prints the bytes of parameters and state, and the
loss in nats per symbol at the end. bfloat16 rounded to the nearest loses small steps; everything else is within 1 % of
float32. It needs the package ml_dtypes: pip install '.[lowp]'
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

import ml_dtypes
import numpy as np

import fastoptim

SYMBOLS, CONTEXT, WIDTH = 27, 3, 16
SINGLE, HALF = np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)
SETTINGS = {
    "float32": (SINGLE, {}),
    "float32, state of bfloat16": (SINGLE, {"state_dtype": "bfloat16", "rounding": "stochastic"}),
    "float32, state of 8 bits": (SINGLE, {"state_dtype": "8bit"}),
    "bfloat16, float32 masters": (HALF, {"master": "float32"}),
    "bfloat16, kahan": (HALF, {"rounding": "kahan"}),
    "bfloat16, at random": (HALF, {"rounding": "stochastic"}),
    "bfloat16, at random, state of 8 bits": (HALF, {"rounding": "stochastic", "state_dtype": "8bit"}),
    "bfloat16, to the nearest": (HALF, {}),
}


def made_up(length, rng):
    """A text in which each symbol is drawn from a distribution that the two before it choose."""
    ends = rng.dirichlet(np.full(SYMBOLS, 0.1), (SYMBOLS, SYMBOLS)).cumsum(axis=-1)
    text = [0, 1]
    for draw in rng.random(length):
        text.append(min(int(np.searchsorted(ends[text[-2], text[-1]], draw)), SYMBOLS - 1))
    return np.array(text)


def cast(arrays, dtype):
    return {name: array.astype(dtype) for name, array in arrays.items()}


def first_params(hidden, rng):
    def normal(rows, columns):
        return (rng.standard_normal((rows, columns)) * (2 / rows) ** 0.5).astype(np.float32)

    layers = {"W1": normal(CONTEXT * WIDTH, hidden), "b1": np.zeros(hidden, np.float32)}
    layers |= {"W2": normal(hidden, SYMBOLS), "b2": np.zeros(SYMBOLS, np.float32)}
    return {"embedding": normal(SYMBOLS, WIDTH), **layers}


def gradients(params, contexts, following):
    """The mean loss of float32 parameters, and the gradients."""
    embedded = params["embedding"][contexts].reshape(len(contexts), -1)
    hidden = np.maximum(embedded @ params["W1"] + params["b1"], 0)
    scores = hidden @ params["W2"] + params["b2"]
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities, rows = exp / exp.sum(axis=1, keepdims=True), np.arange(len(following))
    loss = float(-np.log(probabilities[rows, following]).mean())
    probabilities[rows, following] -= 1
    d_scores = probabilities / np.float32(len(following))
    d_hidden = d_scores @ params["W2"].T * (hidden > 0)
    d_embedding = np.zeros_like(params["embedding"])
    np.add.at(d_embedding, contexts.ravel(), (d_hidden @ params["W1"].T).reshape(-1, WIDTH))
    grads = {"W1": embedded.T @ d_hidden, "b1": d_hidden.sum(axis=0)}
    return loss, {"embedding": d_embedding, **grads, "W2": hidden.T @ d_scores, "b2": d_scores.sum(axis=0)}


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.split("\n")[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="steps of the optimizer in each precision")
    parser.add_argument("--batch", type=int, default=256, help="symbols that are predicted in a step")
    parser.add_argument("--hidden", type=int, default=256, help="width of the hidden layer")
    parser.add_argument("--length", type=int, default=40_000, help="symbols of the text")
    parser.add_argument("--lr", type=float, default=2e-3, help="Adam's learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of the text, the first parameters and the batches")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    text, first = made_up(options.length, rng), first_params(options.hidden, rng)
    contexts = np.stack([text[i : len(text) - CONTEXT + i] for i in range(CONTEXT)], axis=1)
    following, losses = text[CONTEXT:], {}
    for name, (dtype, settings) in SETTINGS.items():
        params, opt = cast(first, dtype), fastoptim.Adam(options.lr, **settings)
        batches = np.random.default_rng(options.seed)
        for _ in range(options.steps):
            batch = batches.integers(len(following), size=options.batch)
            _, grads = gradients(cast(params, SINGLE), contexts[batch], following[batch])
            opt.update(params, cast(grads, dtype))
        losses[name], _ = gradients(cast(params, SINGLE), contexts, following)
        change = f"{losses[name] / losses['float32'] - 1:+8.2%}"
        print(f"{name:<40}{opt.memory(params).total:>10,} bytes   loss {losses[name]:.3f} {change}", flush=True)
    return losses


if __name__ == "__main__":
    main()
