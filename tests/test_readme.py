"""The README: short, complete, and the same code in both languages. Its code runs in `test_documents.py`."""

import inspect
import re
import tomllib

import pytest

import fastoptim
from bench.summary_table import COLUMNS
from support import OPTIMIZERS, ROOT

README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
BOTH = pytest.mark.parametrize("path", [README, CHINESE], ids=lambda path: path.name)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def text_of(path):
    return path.read_text(encoding="utf-8")


@BOTH
def test_fewer_than_200_lines(path):
    assert len(text_of(path).splitlines()) < 200


def test_the_same_code_in_both_languages():
    blocks = FENCED.findall(text_of(README))
    assert len(blocks) > 4
    assert FENCED.findall(text_of(CHINESE)) == blocks


def test_the_same_tables_of_figures_in_both_languages():
    def numbers(path):
        rows = [line for line in text_of(path).splitlines() if line.startswith("|")]
        return [re.findall(r"\d[\d.,]*", row) for row in rows if re.search(r"\d", row)]

    assert numbers(README) == numbers(CHINESE)


@BOTH
def test_every_option_is_named(path):
    for name in (x.name for x in inspect.signature(fastoptim.SGD).parameters.values() if x.kind is x.KEYWORD_ONLY):
        assert f"`{name}`" in text_of(path)


@BOTH
def test_every_optimizer_has_its_row(path):
    rows = {name: row.split("|") for name, row in re.findall(r"^\| `(\w+)` \|(.*)\|$", text_of(path), re.MULTILINE)}
    assert rows.keys() == {cls.__name__ for cls in OPTIMIZERS}
    for cls in OPTIMIZERS:
        formula, state, *figures = rows[cls.__name__]
        assert formula.strip()
        assert re.findall(r"`(\w+)`", state) == list(cls.slots)
        assert len(figures) == len(COLUMNS)


@BOTH
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)", text_of(path))
    assert len(links) > 10
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_nothing_relative_is_left_for_a_package_index():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = text_of(README)
    assert "](docs/" in text
    for each in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]+)", text))
    assert "![" not in text
    assert "The training loop, options, checkpoints" in text
