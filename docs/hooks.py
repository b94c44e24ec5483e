"""What MkDocs calls while it builds the site: pages of the optimizers, mathematics, and the check that all is local."""

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]  # the site tells of the package beside it, whichever is installed

from site_pages.mathml import with_mathml  # noqa: E402  # the path is set above
from site_pages.offline import remote_in_site  # noqa: E402  # as above
from site_pages.page import index, optimizers, page  # noqa: E402  # as above

serving = False
FOLDER = "optimizers/"  # stands in mkdocs.yml for the pages that are made here


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the optimizers' pages into the navigation, and leave out what is not written yet."""
    config.nav = _present(config.nav or [])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the optimizers' pages."""
    pages = {f"{cls.__name__.lower()}.md": page(cls) for cls in optimizers()}
    for name, text in {"index.md": index(), **pages}.items():
        files.append(File.generated(config, FOLDER + name, content=text))
    return files


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Turn LaTeX into MathML."""
    try:
        return with_mathml(html)
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from None


def on_startup(command: str, dirty: bool) -> None:
    """Remember what is done: pages of `mkdocs serve` refer to its own address."""
    global serving
    serving = command == "serve"


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that needs other hosts."""
    if serving:
        return
    remote = remote_in_site(Path(config.site_dir))
    if remote:
        raise PluginError("\n".join(["pages load from other hosts:", *remote]))


def _present(entries: list[Any]) -> list[Any]:
    """The entries whose files there are. A page that no entry names is a warning of MkDocs, so none gets lost."""
    found: list[Any] = []
    for entry in entries:
        title, target = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if target == FOLDER:
            target = [FOLDER + "index.md", *(f"{FOLDER}{cls.__name__.lower()}.md" for cls in optimizers())]
        elif isinstance(target, list):
            target = _present(target)
        elif not (DOCS / target).exists():
            continue
        if target:
            found.append(target if title is None else {title: target})
    return found
