"""The command ``sci``, which is ``python -m llve_sci`` too."""

from llve_common.commands.paper import paper_app
from llve_sci.paper import PAPER

app = paper_app(PAPER)

if __name__ == "__main__":
    app(prog_name="sci")
