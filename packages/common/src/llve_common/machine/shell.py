"""Commands as this system's shell reads them."""

import shlex
import subprocess
import sys
from collections.abc import Sequence

COMMAND = "command.txt"
"""In a folder of results: the command that wrote them."""


def command_line(words: Sequence[str]) -> str:
    """The words quoted so that the shell, typed this line, gives them again."""
    return subprocess.list2cmdline(words) if sys.platform == "win32" else shlex.join(words)
