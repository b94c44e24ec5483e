"""A network learns to balance a pole on a cart: policy gradients (REINFORCE with a learnt baseline), in NumPy alone.

    python examples/cartpole.py
    python examples/cartpole.py --seed 3 --hidden 32

The cart is that of Barto, Sutton & Anderson 1983. In every step it gets a push to the left or to the right. An episode
ends when the pole leans by more than 12 degrees, when the cart leaves the track, or after 500 steps. Its return is the
number of its steps. The script prints the mean return, which begins near 20 and ends near 500.

All parameters are views of one buffer, and so are the gradients: `np.matmul` writes them where the optimizer reads
them. So an update is one kernel call. In plain NumPy, it would be about 15 calls for each of the four arrays.
"""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser

import numpy as np

import fastoptim

LONGEST = 500


def moved(state, right):
    """The states `(n, 4)` 0.02 s after a push of 10 N. A state is the position, its speed, the angle and its speed."""
    _, speed, angle, spin = state.T
    sin, cos = np.sin(angle), np.cos(angle)
    force = 20 * right.astype(np.float32) - 10
    pull = (force + 0.05 * spin**2 * sin) / 1.1  # cart 1 kg, pole 0.1 kg; 0.5 m to the pole's middle
    spin_change = (9.8 * sin - cos * pull) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    speed_change = pull - 0.05 * spin_change * cos / 1.1
    return state + 0.02 * np.stack([speed, speed_change, spin, spin_change], axis=1)


def forward(net, states):
    """The hidden layer, the probability of a push to the right, and the return that is expected."""
    hidden = np.tanh(states @ net["W1"] + net["b1"])
    score, value = (hidden @ net["W2"] + net["b2"]).T
    return hidden, 1 / (1 + np.exp(-score)), value


def play(net, count, discount, rng):
    """Play episodes side by side. Return their lengths, and of all their steps the states, pushes and returns."""
    state, alive = rng.uniform(-0.05, 0.05, (count, 4)).astype(np.float32), np.ones(count, bool)
    states, pushes, lives = [], [], []
    while alive.any() and len(lives) < LONGEST:
        right = rng.random(count) < forward(net, state)[1]
        states.append(state)
        pushes.append(right)
        lives.append(alive)
        state = moved(state, right)
        alive = alive & (abs(state[:, 0]) < 2.4) & (abs(state[:, 2]) < np.radians(12))
    lives = np.array(lives)
    returns = np.zeros((len(lives) + 1, count), np.float32)
    for t in reversed(range(len(lives))):
        returns[t] = lives[t] * (1 - discount + discount * returns[t + 1])  # at most 1, which suits the network
    return lives.sum(axis=0), np.array(states)[lives], np.array(pushes)[lives], returns[:-1][lives]


def write_gradients(net, grads, states, pushes, returns):
    """Of the mean of -advantage * log(probability of the push) + (value - return)**2 / 2."""
    hidden, probability, value = forward(net, states)
    advantage = returns - value
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    at_output = np.stack([advantage * (probability - pushes), value - returns], axis=1) / len(states)
    at_hidden = at_output @ net["W2"].T * (1 - hidden**2)
    np.matmul(states.T, at_hidden, out=grads["W1"])
    np.matmul(hidden.T, at_output, out=grads["W2"])
    at_hidden.sum(axis=0, out=grads["b1"])
    at_output.sum(axis=0, out=grads["b2"])


def main(arguments=None):
    parser = ArgumentParser(description=__doc__.splitlines()[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--updates", type=int, default=150, help="steps of the optimizer")
    parser.add_argument("--episodes", type=int, default=20, help="episodes for each of them")
    parser.add_argument("--hidden", type=int, default=64, help="hidden neurons")
    parser.add_argument("--lr", type=float, default=0.01, help="Adam's learning rate at the beginning; 0 at the end")
    parser.add_argument("--discount", type=float, default=0.99, help="what a step counts beside the one before it")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the pushes and the first states")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    net = {"W1": rng.standard_normal((4, options.hidden), np.float32), "b1": np.zeros(options.hidden, np.float32)}
    net |= {"W2": np.zeros((options.hidden, 2), np.float32), "b2": np.zeros(2, np.float32)}
    net = fastoptim.flatten(net)
    grads = net.zeros_like()
    opt = fastoptim.Adam(lr=fastoptim.schedules.linear(options.lr, 0.0, steps=options.updates), clip_norm=1.0)
    means = []
    for update in range(options.updates):
        lengths, *steps = play(net, options.episodes, options.discount, rng)
        write_gradients(net, grads, *steps)
        opt.update(net, grads)
        means.append(float(lengths.mean()))
        if update % 10 == 0 or update == options.updates - 1:
            print(f"update {update:>3}   mean return {means[-1]:>5.1f} {'#' * int(means[-1] / 10)}", flush=True)
    return means


if __name__ == "__main__":
    main()
