"""The workloads are what they are said to be."""

from math import prod

import pytest

from bench.workloads import WORKLOADS, gpt2_block


@pytest.mark.parametrize(
    ("work", "arrays", "elements"),
    [
        ("flat_50m", 1, 50_000_000),
        ("flat_1m", 1, 1_000_000),
        ("resnet50", 161, 25_557_032),  # as torchvision says
        ("gpt2_block", 12, 444_864),
        ("many_200", 200, 2_000_000),
        ("mnist_mlp", 4, 39_760),
        ("rl_mlp", 6, 4_610),
    ],
)
def test_workload(work: str, arrays: int, elements: int) -> None:
    assert (len(WORKLOADS[work].shapes), WORKLOADS[work].size) == (arrays, elements)


def test_blocks_of_gpt2() -> None:
    """The smallest model has 124,439,808 parameters: embeddings, twelve blocks, and the last norm."""
    assert (50_257 + 1024) * 768 + 12 * sum(map(prod, gpt2_block(768))) + 2 * 768 == 124_439_808
