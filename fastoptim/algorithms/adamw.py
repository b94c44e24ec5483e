"""AdamW. Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101,
Algorithm 2
"""

from fastoptim.algorithms.adam import Adam


class AdamW(Adam):
    """Adam with a weight decay beside its step, not inside it: first `p -= lr * weight_decay * p`, then Adam's step.

    This is Adam with other defaults: `eps=1e-8`, `eps_hat=False`, and the options `weight_decay=0.01` and
    `decoupled=True`. That is the form, and these are the defaults, of PyTorch's AdamW. Optax decays by 1e-4 and Keras
    by 0.004 by default, and Keras adds `eps` as `eps_hat=True` does. The paper's decay is not multiplied by `lr`, but
    by its schedule alone: divide the paper's by the first `lr`.

    Args:
        lr: learning rate, at least 0.
        beta1, beta2: the parts of the first and second moment that stay from one step to the next, in [0, 1).
        eps: what keeps the division from zero, at least 0.
        eps_hat: False to add `eps` to the root after its bias is corrected; True for before, as in Keras.
        eps_in_root: True to add `eps` to the second moment, under the root, as Optax does with `eps_root`.
        amsgrad: True to divide by the root of the largest second moment so far, as in PyTorch.
    """

    eps = 1e-8
    eps_hat = False
    weight_decay = 0.01
    decoupled = True
