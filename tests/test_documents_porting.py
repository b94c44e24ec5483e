"""The code in the porting pages runs as it stands."""

from documents import APART, each_block, run


@each_block(APART[1])
def test_block(blocks, line, tmp_path_factory, monkeypatch):
    run(blocks, line, tmp_path_factory, monkeypatch)
