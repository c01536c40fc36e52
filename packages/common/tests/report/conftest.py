"""What the tests of pages share: a page taken apart."""

import json
from html.parser import HTMLParser

import pytest

LINKS = {"src", "href", "xlink:href", "srcset", "data", "action", "poster", "background"}
WEBP = "data:image/webp;base64,"


class Reader(HTMLParser):
    """The elements, words, names of attributes, links, groups and pictures of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.links, self.words, self.attributes, self.groups = [], [], [], [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())
        panels = [panel for group in self.groups for panel in group["panels"]]
        shown = [picture for panel in panels for picture in panel["pictures"]]
        self.pictures = [each for each in self.links + shown if each.startswith(WEBP)]

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value for name, value in attrs if name in LINKS]

    def handle_data(self, data):
        if self.tags[-1:] == ["script"] and data.startswith("{"):
            self.groups.append(json.loads(data))
            self.words += [text for panel in self.groups[-1]["panels"] for text in panel["said"]]
        elif self.tags[-1:] not in (["script"], ["style"]):
            self.words.append(data)


@pytest.fixture
def read() -> type[Reader]:
    """Takes a page apart."""
    return Reader
