"""What `help(fastoptim.Adam)` says behind the class's own docstring: its options, and an example."""

import inspect

PACKAGE = __name__.partition(".")[0]
EXAMPLE = """
Examples:
    >>> import numpy as np
    >>> params = {{"W": np.ones((3, 2), np.float32), "b": np.zeros(2, np.float32)}}
    >>> opt = {name}(clip_norm=1.0)
    >>> opt.update(params, {{"W": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)}})
    >>> opt.iter  # and the arrays in params have changed
    1
"""


def documented(cls: type, options: str | None, signature: inspect.Signature) -> str | None:
    """A class's docstring with its options behind; None where Python leaves docstrings out.

    A class of this package gets an example, too. Another one may have a constructor of its own.

    Args:
        cls: an optimizer's class.
        options: the docstring of the class that declares the options, with a line "name: what it is" for each.
        signature: of the constructor.
    """
    if options is None:
        return None
    own = inspect.cleandoc(vars(cls).get("__doc__") or cls.__name__)
    _, _, text = inspect.cleandoc(options).partition("Args:\n")
    text, _, _ = text.partition("\n\n")
    for name, parameter in signature.parameters.items():
        text = text.replace(f"    {name}: ", f"    {name}={parameter.default!r}: ", 1)
    example = EXAMPLE.format(name=cls.__name__) if cls.__module__.startswith(f"{PACKAGE}.algorithms.") else ""
    return f"{own}\n\nOptions, keywords of every optimizer:\n{text}\n{example}"
