"""The workloads are what they are said to be."""

import pytest

from bench.workloads import WORKLOADS


@pytest.mark.parametrize(
    ("work", "arrays", "elements"),
    [
        ("flat_50m", 1, 50_000_000),
        ("flat_1m", 1, 1_000_000),
        ("resnet50", 161, 25_557_032),  # as torchvision says
        ("gpt2_block", 12, 7_087_872),  # a twelfth of what GPT-2 has beside its embeddings and the last norm
        ("many_200", 200, 2_000_000),
        ("mnist_mlp", 4, 39_760),
        ("rl_mlp", 6, 4_610),
    ],
)
def test_workload(work: str, arrays: int, elements: int) -> None:
    assert (len(WORKLOADS[work].shapes), WORKLOADS[work].size) == (arrays, elements)
