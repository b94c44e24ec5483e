"""The names of the code as symbols: `beta1` is β₁, `p` is θ."""

import re

KNOWN = {
    "p": r"\theta",
    "lr": r"\eta",
    "lambd": r"\lambda",
    "eps": r"\varepsilon",
    "momentum": r"\mu",
    "decay_rate": r"\rho",
    "weight_decay": r"\lambda",
    "step_size": r"\alpha",
    "momentum_decay": r"\psi",
    "warmup_steps": r"T_{\text{warmup}}",
    "weight_lr_power": "q",
    "weight_sum": "W",
    "eta_minus": r"\eta^{-}",
    "eta_plus": r"\eta^{+}",
    "min_step_size": r"\Delta_{\text{min}}",
    "max_step_size": r"\Delta_{\text{max}}",
    "alpha_warmup": r"T_{\alpha}",
    "beta3_warmup": r"T_{\beta_{3}}",
    "beta2_decay": "c",
    "one_minus_beta2": r"\overline{\beta_{2}}",
    "clip_threshold": "d",
    "growth_rate": "G",
    "inf": r"\infty",
}
LETTERS = frozenset(
    ["alpha", "beta", "gamma", "delta", "theta", "kappa", "lambda", "mu", "nu", "rho", "sigma", "tau", "phi", "omega"]
)

# What the end of a variable's name says: `rho_t` is the number of this step.
INDICES = {"t": "t", "next": "t+1", "inf": r"\infty"}


def indexed(name: str) -> str:
    """The symbol of a variable whose name ends in an index, as `rho_t` and `mu_next`; empty for any other name."""
    base, _, index = name.rpartition("_")
    return symbol(base, INDICES[index]) if re.fullmatch(r"[a-z]+\d*", base) and index in INDICES else ""


def symbol(name: str, *indices: str, primes: int = 0) -> str:
    """A name as LaTeX, with indices behind those that it has itself.

    Args:
        name: `m`, `beta1`, `eps_root`: a letter, a name that has a symbol, with a number or a word behind it.
        indices: such as `t` and `t-1`.
        primes: how many strokes tell it from others of its name.
    """
    base, own = _parts(name)
    index = ",".join([*own, *indices])
    return base + "'" * primes + (f"_{{{index}}}" if index else "")


def _parts(name: str) -> tuple[str, list[str]]:
    if name in KNOWN:
        return KNOWN[name], []
    if name in LETTERS:
        return f"\\{name}", []
    if len(name) == 1:
        return name, []
    numbered = re.fullmatch(r"([a-z]+)_?(\d+)", name)
    if numbered:
        base, own = _parts(numbered[1])
        return base, [*own, numbered[2]]
    first, _, rest = name.partition("_")
    if rest and (len(first) == 1 or first in (*KNOWN, *LETTERS)):
        return _parts(first)[0], [rf"\text{{{rest}}}"]
    return rf"\text{{{name}}}", []
