"""The command ``five``, which is ``python -m llve_five`` too."""

from llve_common.commands.paper import paper_app
from llve_five.paper import PAPER

app = paper_app(PAPER)

if __name__ == "__main__":
    app(prog_name="five")
