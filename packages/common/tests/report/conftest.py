"""What the tests of pages share: a page taken apart."""

from html.parser import HTMLParser

import pytest

LINKS = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}


class Reader(HTMLParser):
    """The elements, the words, the names of attributes, the links and the pictures of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.links, self.words, self.attributes = [], [], [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())
        self.pictures = [link for link in self.links if link.startswith("data:image/webp;base64,")]

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value for name, value in attrs if name in LINKS]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def read() -> type[Reader]:
    """Takes a page apart."""
    return Reader
