"""The code in README, in docs/ and in docstrings runs as it stands.

Each block is a test. The blocks of a document share a namespace and a folder of their own, and run in their order.
In Markdown they are those that begin with ```python, in docstrings those with >>>.
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


def documents():
    """What is run: Markdown that users read, and the library's own code."""
    found = [ROOT.glob("README*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "fastoptim").rglob("*.py")]
    return [path for paths in found for path in sorted(paths)]


CASES = [(blocks, line) for blocks in map(Blocks, documents()) for line in blocks.lines()]


@pytest.mark.parametrize(("blocks", "line"), CASES, ids=[f"{x.path.relative_to(ROOT)}:{line}" for x, line in CASES])
def test_block(blocks, line, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("MPLBACKEND", "agg")
    try:
        blocks.run(line, tmp_path_factory)
    except SkipTest as reason:
        pytest.skip(str(reason))


MARKDOWN = """\
Some text.

```python
value = [1]
open("made", "w").close()
```

<!-- skip: next "needs a GPU" -->

```python
raise ValueError
```

<!-- skip: next if(not installed("no_such_module"), reason="needs it") -->
```python
import no_such_module
```

<!-- skip: next if(not installed("numpy"), reason="needs NumPy") -->

```python
import os
assert os.listdir() == ["made"]
value.append(2)
```

```text
not Python
```

```python
assert value == [1, 2]
value.append(
    1 / 0)
```
"""


@pytest.fixture
def markdown(tmp_path):
    (tmp_path / "some.md").write_text(MARKDOWN)
    return Blocks(tmp_path / "some.md")


def test_blocks_of_a_document(markdown, tmp_path_factory):
    lines = markdown.lines()
    assert lines == [3, 10, 15, 21, 31]
    here = Path.cwd()
    markdown.run(3, tmp_path_factory)
    with pytest.raises(SkipTest, match="needs a GPU"):
        markdown.run(10, tmp_path_factory)
    with pytest.raises(SkipTest, match="needs it"):
        markdown.run(15, tmp_path_factory)
    markdown.run(21, tmp_path_factory)
    assert Path.cwd() == here


def test_a_block_alone_has_those_before_it_and_fails_in_its_line(markdown, tmp_path_factory):
    with pytest.raises(ZeroDivisionError) as error:
        markdown.run(31, tmp_path_factory)
    last = error.traceback[-1]
    assert (last.path, last.lineno + 1) == (markdown.path, 34)


def test_docstrings(tmp_path, tmp_path_factory):
    path = tmp_path / "some.py"
    path.write_text('''"""Text.

>>> 1 + 1
2
"""


def f():
    """
    >>> 1 + 2
    4
    """
''')
    blocks = Blocks(path)
    assert blocks.lines() == [3, 10]
    blocks.run(3, tmp_path_factory)
    with pytest.raises(AssertionError, match=r"some.py, line 10(.|\n)*Expected:\n    4\nGot:\n    3"):
        blocks.run(10, tmp_path_factory)
