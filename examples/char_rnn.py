"""A recurrent network learns to write text, character by character. Its gradients are written out in NumPy.

    python examples/char_rnn.py
    python examples/char_rnn.py --text novel.txt --steps 100000

Without `--text` it learns this very script. The recipe is that of the well-known minimal scripts of this kind: AdaGrad,
25 characters in a step, gradients limited to [-5, 5], and a state that is carried on from step to step. The script
prints samples and the smoothed loss in nats per character. The first sample is noise, the last one resembles Python.

Clipping and the update are one pass over the data here. In plain NumPy, it would be for every array:

    np.clip(g, -5, 5, out=g);  h += g * g;  p -= lr * g / np.sqrt(h + 1e-8)
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from pathlib import Path

import numpy as np

import fastoptim


def softmax(scores):
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def next_state(params, state, character):
    return np.tanh(params["W_in"][character] + state @ params["W_state"] + params["b_state"])


def gradients(params, characters, state):
    """Predict each character's successor. Returns the loss per character, all gradients and the last state."""
    given, wanted = characters[:-1], characters[1:]
    states = np.empty((len(given) + 1, state.size), np.float32)  # states[t] is the one before given[t]
    states[0] = state
    for t, character in enumerate(given):
        states[t + 1] = next_state(params, states[t], character)
    at_scores = softmax(states[1:] @ params["W_out"] + params["b_out"])
    steps = np.arange(len(given))
    loss = -np.log(at_scores[steps, wanted]).mean()
    at_scores[steps, wanted] -= 1
    at_sums = at_scores @ params["W_out"].T  # the gradient at the states, until the loop makes it that within tanh
    from_later = np.zeros_like(state)
    for t in reversed(steps):
        at_sums[t] = (at_sums[t] + from_later) * (1 - states[t + 1] ** 2)
        from_later = params["W_state"] @ at_sums[t]
    w_in = np.zeros_like(params["W_in"])
    np.add.at(w_in, given, at_sums)
    grads = {"W_in": w_in, "W_state": states[:-1].T @ at_sums, "b_state": at_sums.sum(axis=0),
             "W_out": states[1:].T @ at_scores, "b_out": at_scores.sum(axis=0)}  # fmt: skip
    return loss, grads, states[-1]


def sample(params, alphabet, character, state, length, rng):
    written = [character]
    for _ in range(length):
        state = next_state(params, state, written[-1])
        cumulated = softmax(state @ params["W_out"] + params["b_out"]).cumsum()
        written.append(min(int(cumulated.searchsorted(rng.random())), len(alphabet) - 1))
    return "".join(alphabet[i] for i in written)


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--text", type=Path, default=__file__, help="a file of text to learn")
    parser.add_argument("--steps", type=int, default=50_000, help="steps of the optimizer")
    parser.add_argument("--length", type=int, default=25, help="characters in a step")
    parser.add_argument("--hidden", type=int, default=100, help="size of the state")
    parser.add_argument("--lr", type=float, default=0.1, help="AdaGrad's learning rate")
    parser.add_argument("--samples", type=int, default=5, help="how many to print meanwhile")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the samples")
    options = parser.parse_args(arguments)
    text = Path(options.text).read_text(encoding="utf-8")
    alphabet = sorted(set(text))
    data = np.array([alphabet.index(character) for character in text])
    rng = np.random.default_rng(options.seed)
    size, hidden = len(alphabet), options.hidden
    shapes = {"W_in": (size, hidden), "W_state": (hidden, hidden), "W_out": (hidden, size)}
    params = {name: rng.standard_normal(shape, np.float32) * np.float32(0.01) for name, shape in shapes.items()}
    params |= {"b_state": np.zeros(hidden, np.float32), "b_out": np.zeros(size, np.float32)}
    opt = fastoptim.AdaGrad(lr=options.lr, eps=1e-8, eps_in_root=True, clip_value=5.0)
    smoothed, position = np.log(size), len(data)
    for step in range(options.steps + 1):
        if position + options.length >= len(data):
            position, state = 0, np.zeros(hidden, np.float32)
        if step % max(1, options.steps // options.samples) == 0:
            written = sample(params, alphabet, data[position], state, 200, rng)
            print(f"\n==== step {step}, loss {smoothed:.3f}\n{written}", flush=True)
        loss, grads, state = gradients(params, data[position : position + options.length + 1], state)
        opt.update(params, grads)
        smoothed = 0.998 * smoothed + 0.002 * loss
        position += options.length
    return float(smoothed)


if __name__ == "__main__":
    main()
