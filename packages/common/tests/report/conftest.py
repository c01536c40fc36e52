"""What the tests of pages share: a page taken apart."""

from html.parser import HTMLParser

import pytest

LINKS = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}


class Reader(HTMLParser):
    """The elements, the words, the names of attributes and the links of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.attributes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value for name, value in attrs if name in LINKS]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words."""
        return " ".join(" ".join(self.words).split())

    @property
    def pictures(self) -> list[str]:
        """The pictures in the page."""
        return [link for link in self.links if link.startswith("data:image/webp;base64,")]


@pytest.fixture
def read() -> type[Reader]:
    """Takes a page apart."""
    return Reader
