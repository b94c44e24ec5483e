"""The code of documents as tests: blocks that begin with ```python in Markdown, with >>> in docstrings.

Each block is a test. The blocks of a document share a namespace and a folder of their own, and run in their order.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from unittest import SkipTest

import pytest

from support import ROOT

sybil = pytest.importorskip("sybil", reason="runs the blocks of documents with sybil, which is not installed")
from sybil.document import Document, PythonDocStringDocument  # noqa: E402
from sybil.evaluators.skip import Skipper  # noqa: E402
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser  # noqa: E402
from sybil.parsers.rest import DocTestParser  # noqa: E402


def installed(module):
    """Whether a module can be imported: documents skip by it."""
    return find_spec(module) is not None


class Blocks:
    """A document's blocks, each of which needs those before it."""

    def __init__(self, path):
        if path.suffix == ".md":
            self.document = Document.parse(str(path), PythonCodeBlockParser(), SkipParser())
        else:
            self.document = PythonDocStringDocument.parse(str(path), DocTestParser())
            self.document.evaluators.clear()  # it would import the module again, by its path
        self.document.namespace |= {"__name__": "__main__", "installed": installed}
        self.path, self.examples, self.done = path, list(self.document), 0
        self.folder = None

    def lines(self):
        """The lines in which blocks begin."""
        return [example.line for example in self.examples if not self._is_directive(example)]

    def run(self, line, folders):
        """Run the block that begins there, and those before it that have not been run."""
        self.folder = self.folder or folders.mktemp("document")
        before, here = Path.cwd(), [example.line for example in self.examples].index(line)
        os.chdir(self.folder)
        try:
            for i in range(self.done, here + 1):
                self.done = i + 1
                try:
                    self.examples[i].evaluate()
                except SkipTest:
                    if i == here:
                        raise
        finally:
            os.chdir(before)

    def _is_directive(self, example):
        return isinstance(example.region.evaluator, Skipper)


# These have files of tests of their own, as a file's tests all run in one process, and they take long.
APART = [ROOT / "docs" / "guides", ROOT / "docs" / "porting"]


def each_block(folder=None):
    """Parametrize a test by the blocks of the documents in a folder; without one, of all outside `APART`."""
    found = [ROOT.glob("README*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "fastoptim").rglob("*.py")]
    everything = [path for paths in found for path in sorted(paths)]
    apart = [path for path in everything if any(path.is_relative_to(other) for other in APART)]
    paths = [path for path in everything if (path.is_relative_to(folder) if folder else path not in apart)]
    cases = [(blocks, line) for blocks in map(Blocks, paths) for line in blocks.lines()]
    ids = [f"{blocks.path.relative_to(ROOT)}:{line}" for blocks, line in cases]
    return pytest.mark.parametrize(("blocks", "line"), cases, ids=ids)


def run(blocks, line, tmp_path_factory, monkeypatch):
    """What a test of one block does."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("MPLBACKEND", "agg")
    try:
        blocks.run(line, tmp_path_factory)
    except SkipTest as reason:
        pytest.skip(str(reason))
