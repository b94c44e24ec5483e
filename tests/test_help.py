"""What `help` says, and that its examples are right."""

import doctest
import inspect
import pydoc

import pytest

import fastoptim
from support import OPTIMIZERS, python


def text_of(thing):
    return pydoc.plain(pydoc.render_doc(thing))


def test_the_package_in_less_than_300_lines():
    text = text_of(fastoptim)
    assert len(text.splitlines()) < 300
    for name in fastoptim.__all__:
        assert name in text
    assert "A learning rate for each element" not in text  # no class is printed with all that it inherits
    assert "flatten(params:" in text  # functions are


def test_the_package_in_a_terminal():
    """Where pydoc is the program that runs."""
    text = python(
        "import runpy, sys; sys.argv = ['pydoc', 'fastoptim']; runpy.run_module('pydoc', run_name='__main__')"
    )
    assert 50 < len(text.splitlines()) < 300


def test_all_names_are_in_all():
    for name in "Adam", "Checkpoint", "flatten", "schedules":
        assert name in fastoptim.__all__
    assert "asdf" not in fastoptim.__all__


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_every_hyperparameter_and_option_with_its_default(cls):
    text = text_of(cls)
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert f"\n |      {name}={parameter.default!r}: " in text
        else:
            assert f"{name}={parameter.default!r}" in text
            assert f"{name}:" in text or f"{name}," in text
    assert f">>> opt = {cls.__name__}(" in text


@pytest.mark.parametrize("thing", [fastoptim, fastoptim.Optimizer, *OPTIMIZERS], ids=lambda thing: thing.__name__)
def test_examples(thing):
    names = {cls.__name__: cls for cls in OPTIMIZERS}
    [test] = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__, globs=names)
    assert len(test.examples) >= 3
    found = []
    doctest.DocTestRunner(verbose=False).run(test, out=found.append)
    assert not found, "".join(found)


def test_a_class_of_ones_own():
    class Mine(fastoptim.Adam):
        """What it does."""

        @fastoptim.rule
        def rule(p, g, m, v, a, b, c, d):  # noqa: N805  # a rule has no self
            return p, m, v

    assert Mine.__doc__.startswith("What it does.\n\nOptions, keywords of every optimizer:\n    grad_scale=1.0: ")
    assert ">>>" not in Mine.__doc__  # its constructor may take anything

    class Documented(fastoptim.Adam):
        """Another default."""

        weight_decay = lambda step: 0.0  # noqa: E731  # its repr has backslashes on no system, but angle brackets

    assert Documented.__doc__.startswith("Another default.\n\nOptions")
