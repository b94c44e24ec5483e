"""What the table of all optimizers needs: each one on a large and on a small workload, beside the fastest of PyTorch's.

python -m pytest bench/test_update.py -m summary --benchmark-json optimizers.json
python -m bench.report optimizers.json --summary --fill README.md README.zh.md
"""

from collections.abc import Sequence

from bench.contenders import CONTENDERS, OURS
from bench.recipes import EACH
from fastoptim import Optimizer

FLAT, ARRAYS, MATRICES, SMALL = "flat_50m", "resnet50", "gpt2_block", "rl_mlp"
PYTORCH = "torch-fused", "torch-foreach"
OTHERS = "schedulefree", "pytorch_optimizer", "optax"  # where PyTorch itself has none


def large(optimizer: Optimizer) -> str:
    """Its large workload. What a step computes for each array or matrix has to be seen."""
    if optimizer.matrices is not None:
        return MATRICES
    return FLAT if len(optimizer.stages) == 1 else ARRAYS


def rivals(optimizer: Optimizer) -> list[str]:
    """Whom it is compared with: PyTorch's own, or those that others have."""

    def among(names: Sequence[str]) -> list[str]:
        return [name for name in names if name in CONTENDERS and CONTENDERS[name].has(optimizer)]

    return among(PYTORCH) or among(OTHERS)


def cases() -> set[tuple[str, str, str]]:
    """Workload, recipe and contender of everything that is measured for it."""
    found = set()
    for name, recipe in EACH.items():
        optimizer = recipe.make()
        contenders = [OURS, *rivals(optimizer)]
        found |= {(work, name, contender) for work in (large(optimizer), SMALL) for contender in contenders}
    return found
