"""What a command needs beside the library, and what to install where it is missing."""

import sys
from importlib.util import find_spec

MODULES = {"pytest-benchmark": "pytest_benchmark"}  # where a package's module has another name
STATUS = 3  # as for other errors


def missing(*packages: str) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for package in packages if find_spec(MODULES.get(package, package)) is None]


def need(command: str, *packages: str) -> None:
    """End with a sentence that says what to install, if something is missing."""
    if absent := missing(*packages):
        print(f"{command} needs {' and '.join(absent)}: pip install '.[bench]' installs all of it", file=sys.stderr)
        sys.exit(STATUS)
