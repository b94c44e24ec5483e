"""Benchmarks against NumPy, PyTorch, Optax and the machine's own limit.

    python -m pytest bench --benchmark-json run.json             # all of it; --optimizer adam -k rl_mlp selects
    python -m pytest bench --quick --benchmark-json run.json     # one short round of each: does everything run?
    python -m bench.report run.json --output chart.png
    python -m bench.report new.json --against old.json
    python -m pytest bench/test_update.py -m summary --benchmark-json optimizers.json
    python -m bench.report optimizers.json --summary             # one row for each optimizer
    python -m bench.ways --against ../another-checkout           # every way of calling, in turn with another version
    python -m bench.memory                                       # what optimizers take in memory
    python -m bench.trust                                        # do the verdicts hold on this machine?

Seconds belong to one machine at one moment. What can be compared between runs is the **ratio to the ceiling**: a loop
that reads and writes the same number of arrays and computes next to nothing, measured in turn with every contender.
A result that cannot be trusted is called inconclusive, and no number is shown (`bench.limits`).
"""
