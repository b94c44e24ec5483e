"""The code in README, in docs/ and in docstrings runs as it stands. The guides and the porting pages have own files."""

from pathlib import Path
from unittest import SkipTest

import pytest

from documents import Blocks, each_block, run


@each_block()
def test_block(blocks, line, tmp_path_factory, monkeypatch):
    run(blocks, line, tmp_path_factory, monkeypatch)


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
