import sys

import pytest

from llve_common.machine.shell import command_line


@pytest.mark.parametrize(
    ("platform", "quoted"), [("linux", "sci 'a b' 'c$d'"), ("win32", 'sci "a b" c$d')]
)
def test_words_are_quoted_as_the_system_reads_them(monkeypatch, platform, quoted):
    monkeypatch.setattr(sys, "platform", platform)
    assert command_line(["sci", "a b", "c$d"]) == quoted
