"""The code in the guides runs as it stands."""

from documents import APART, each_block, run


@each_block(APART[0])
def test_block(blocks, line, tmp_path_factory, monkeypatch):
    run(blocks, line, tmp_path_factory, monkeypatch)
