"""The check that a built site asks no other host for a script, a style, a font or a picture."""

import re
from html.parser import HTMLParser
from pathlib import Path

REMOTE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
# Elements and attributes of which a browser loads what they name. A link in the text, <a href>, is none of them.
WITH_SOURCE = {"script", "img", "iframe", "audio", "video", "source", "embed"}
LOADING = {"href": {"link"}, "src": WITH_SOURCE, "data": {"object"}}


class _Loaded(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and tag in LOADING.get(name, ()) and REMOTE.match(value):
                self.found.append(value)
            elif value and name == "style":
                self.found += IN_STYLE.findall(value)


def remote_in_html(text: str) -> list[str]:
    """The addresses on other hosts that a page loads from."""
    parser = _Loaded()
    parser.feed(text)
    styles = re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL | re.IGNORECASE)
    return parser.found + [address for style in styles for address in IN_STYLE.findall(style)]


def remote_in_site(folder: Path) -> list[str]:
    """The same for all pages and style sheets of a site, each with its file."""
    pages = {path: remote_in_html(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    styles = {path: IN_STYLE.findall(path.read_text(encoding="utf-8")) for path in folder.rglob("*.css")}
    return [f"{path.relative_to(folder)}: {each}" for path, found in (pages | styles).items() for each in found]
