"""The command line. What the demo needs is imported when it runs: `info` and `warmup` do without its extra."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from importlib.util import find_spec

import fastoptim
from fastoptim.cli import info, warmup
from fastoptim.cli.arguments import DTYPES, EPOCHS, OPTIMIZERS, optimizer, options, png, positive, seed

DEMO_EXTRA = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}  # package by module

EXAMPLES = """\
examples:
  fastoptim demo                                 all optimizers on handwritten digits, in seconds
  fastoptim demo --optimizer adam --epochs 100   one of them, for longer
  fastoptim info                                 what a bug report should hold
  fastoptim warmup                               compile everything now, not at the first update
"""
DEMO = """\
Train a NumPy network on scikit-learn's handwritten digits, once with each
optimizer, from the same weights and on the same batches. Prints test accuracies
and the time of an update, beside that of the same rule on whole NumPy arrays,
and plots the loss curves. The same seed gives the same accuracies.
"""
DEMO_EXAMPLES = """\
examples:
  fastoptim demo
  fastoptim demo --seed 7 --epochs 60
  fastoptim demo --optimizer adam --optimizer sgd --output adam-and-sgd.png
"""
INFO = """\
Print versions, processor, threads, numba's threading layer, where compiled
kernels are cached, and whether there is an NVIDIA driver.
"""
WARMUP = """\
Compile all kernels into numba's cache, so that the first update of a program
need not: when building a container image, say, or before a batch of short jobs.
What is cached already is only loaded. The kernels are this processor's: another
model compiles its own.
"""
WARMUP_EXAMPLES = """\
examples:
  fastoptim warmup
  fastoptim warmup --optimizer adam --dtype float32
  fastoptim warmup --optimizer adam --options clip_norm,ema,groups
  NUMBA_CACHE_DIR=/opt/kernels fastoptim warmup   (set it for later programs, too)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the process's exit code: 0, 1 for what failed, 2 for what was asked in a wrong way.

    Args:
        arguments: the command line without the program's name, by default the process's own.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        code: int = options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130  # what a shell gives for SIGINT
    return code


def _demo(options: argparse.Namespace) -> int:
    missing = [package for module, package in DEMO_EXTRA.items() if find_spec(module) is None]
    if missing:
        print(
            f"fastoptim demo needs the demo extra: pip install 'fastoptim[demo]' (missing: {', '.join(missing)})",
            file=sys.stderr,
        )
        return 2
    from fastoptim.cli import demo

    return demo.run(_selected(options), options.seed, options.epochs, options.output)


def _info(options: argparse.Namespace) -> int:
    return info.run()


def _warmup(options: argparse.Namespace) -> int:
    sets, optimizers, refused = options.options or [{}], [], dict[str, list[str]]()
    for cls, values in itertools.product(_selected(options), sets):
        try:
            opt = cls(**values)
            opt.plan(opt.stages, opt.matrix_stages, accumulates=False)  # refuses options that cannot go together
            optimizers.append(opt)
        except (TypeError, ValueError) as error:
            if options.optimizer or isinstance(error, TypeError):  # who names one, or misspells an option
                print(f"fastoptim warmup: {error}", file=sys.stderr)
                return 2
            refused.setdefault(str(error), []).append(cls.__name__)
    for why, names in refused.items():
        print(f"fastoptim warmup: without {', '.join(names)}: {why}", file=sys.stderr)
    return warmup.run(optimizers, list(dict.fromkeys(options.dtype or DTYPES))) if optimizers else 2


def _selected(options: argparse.Namespace) -> list[type[fastoptim.Optimizer]]:
    return list(dict.fromkeys(options.optimizer or OPTIMIZERS.values()))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="fastoptim", description=(fastoptim.__doc__ or "").partition("\n")[0], epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"fastoptim {fastoptim.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    demo = commands.add_parser(
        "demo", help="train on digits with every optimizer", description=DEMO, epilog=DEMO_EXAMPLES, formatter_class=raw
    )
    info = commands.add_parser("info", help="versions, threads, caches", description=INFO, formatter_class=raw)
    warmup = commands.add_parser(
        "warmup", help="compile all kernels", description=WARMUP, epilog=WARMUP_EXAMPLES, formatter_class=raw
    )
    for command, run in (demo, _demo), (info, _info), (warmup, _warmup):
        command.set_defaults(run=run)
    only = f"only this one, in any case; may be repeated: {', '.join(OPTIMIZERS)}"
    for command in demo, warmup:
        command.add_argument("--optimizer", type=optimizer, action="append", metavar="NAME", help=only)
    default = "(default: %(default)s)"
    demo.add_argument("--epochs", type=positive, default=EPOCHS, metavar="N", help=f"passes over the data {default}")
    demo.add_argument("--seed", type=seed, default=0, metavar="N", help=f"draws split, weights and batches {default}")
    demo.add_argument(
        "--output", type=png, default="fastoptim-demo.png", metavar="FILE.png", help=f"the plot {default}"
    )
    warmup.add_argument("--dtype", action="append", choices=DTYPES, help="only this one; may be repeated")
    warmup.add_argument(
        "--options",
        type=options,
        action="append",
        metavar="NAME,NAME",
        help="with these options together, which is another kernel; may be repeated (default: with none)",
    )
    return parser
