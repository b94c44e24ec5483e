"""Do the verdicts hold on this machine? `python -m bench.trust --help`.

Code that is the same must never come out slower or faster, and code that takes a fifth more time never faster.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.needs import need
from bench.processes import ROOT
from bench.report import Parser, percent
from bench.verdicts import EFFECT, Status, Verdict

COPIED = "fastoptim", "bench", "docs"  # the bench finds other libraries' optimizers by docs/equivalents.toml
WAYS = ("RL MLP", "RL MLP, flat", "the same dict")

# What makes a copy's updates slower: after each, as much time is wasted as a fifth of it has taken.
SLOWER = """

def _slower(update):
    from time import perf_counter

    def slow_update(*args, **kwargs):
        start = perf_counter()
        update(*args, **kwargs)
        end = start + 1.2 * (perf_counter() - start)
        while perf_counter() < end:
            pass

    return slow_update


Optimizer.update = _slower(Optimizer.update)
"""

WRONG = {"same": {Verdict.SLOWER, Verdict.FASTER}, "slower": {Verdict.FASTER}}  # verdicts that must not come


def copy_to(folder: Path, *, slower: bool) -> Path:
    """A copy of this checkout in a new folder."""
    folder.mkdir(exist_ok=True)
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    if slower:
        with (folder / "fastoptim" / "__init__.py").open("a") as file:
            file.write(SLOWER)
    return folder


def saved_runs(same: Path, slower: Path, times: int, select: str, effect: float) -> Iterator[tuple[str, list[Verdict]]]:
    """The verdicts about pairs of saved runs, one after the other, of the same code and of the slower one."""
    from bench.compare import compare
    from bench.runs import Run, load

    def measured(checkout: Path) -> Run:
        output = checkout / "run.json"
        command = [sys.executable, "-m", "pytest", "bench/test_update.py", "-q", "-k", select]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        subprocess.run(
            [*command, "--benchmark-json", str(output)], cwd=checkout, env=environment, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return load(output)

    def verdicts(new: Run) -> list[Verdict]:
        return [row.verdict for row in compare(last, new, effect).rows if not row.control]

    last = measured(same)
    for _ in range(times):
        yield "slower", verdicts(measured(slower))
        new = measured(same)
        yield "same", verdicts(new)
        last = new


def in_turn(same: Path, slower: Path, times: int, effect: float) -> Iterator[tuple[str, list[Verdict]]]:
    """The verdicts of `bench.ways --against`, of the same code and of the slower one against this checkout."""
    from bench import rounds
    from bench.ways import ROUNDS_AGAINST

    for _ in range(times):
        for kind, checkout in ("slower", slower), ("same", same):
            changes = rounds.judged(rounds.in_turn([checkout, ROOT], WAYS, ROUNDS_AGAINST)).values()
            yield kind, [change.verdict(effect) if change else Verdict.INCONCLUSIVE for change in changes]


def counted(verdicts: Iterable[Verdict]) -> str:
    """So many of each."""
    found = list(verdicts)
    return ", ".join(f"{found.count(each)} {each}" for each in Verdict if each in found)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    options = _parser().parse_args(arguments)
    need("bench.trust", "pytest", "pytest-benchmark", "scipy")
    effect, wrong = options.threshold / 100, 0
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        same, slower = copy_to(Path(one), slower=False), copy_to(Path(two), slower=True)
        parts = {
            "two saved runs": saved_runs(same, slower, options.times, options.select, effect),
            "in turn": in_turn(same, slower, options.times, effect),
        }
        for part, found in parts.items():
            if options.only not in (None, part):
                continue
            for kind, verdicts in found:
                bad = WRONG[kind] & set(verdicts)
                wrong += len(bad)
                print(f"{part}, {kind} code: {counted(verdicts)}{'  WRONG' if bad else ''}", flush=True)
    print(f"{wrong} wrong verdicts")
    return Status.SLOWER if wrong else Status.FINE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m bench.trust",
        description="Measure this checkout against a copy of itself, and against one whose updates take a fifth more, "
        "many times: by saved runs (bench.report --against) and in turn (bench.ways --against).",
        epilog="Exit status: 0 if no verdict is wrong, 1 if one is, 3 for errors.",
    )
    parser.add_argument("--times", type=int, default=10, metavar="N", help="how often (%(default)s)")
    parser.add_argument("--only", choices=["two saved runs", "in turn"], help="one of the two ways to compare")
    parser.add_argument(
        "--select", default="(rl_mlp or mnist_mlp) and -adam-", metavar="EXPRESSION", help="pytest's -k (%(default)s)"
    )
    parser.add_argument(
        "--threshold", type=percent, default=EFFECT, metavar="PERCENT", help="a smaller change is none (%(default)g %%)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
