"""Checkpoints: parameters, an optimizer's state and your own notes in one safetensors file.

`format` is what the file says, `files` the file that replaces another one in one moment, `write` saves, `read` loads,
`stored` has the arrays that stay in the file until they are asked for, and `restore` puts them where they belong.
"""

from fastoptim.checkpoint.format import CheckpointError
from fastoptim.checkpoint.read import load
from fastoptim.checkpoint.restore import Checkpoint
from fastoptim.checkpoint.write import save

__all__ = ["Checkpoint", "CheckpointError", "load", "save"]
