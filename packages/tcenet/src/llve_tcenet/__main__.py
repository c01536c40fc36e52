"""The command ``tcenet``, which is ``python -m llve_tcenet`` too."""

from llve_common.commands.paper import paper_app
from llve_tcenet.commands import PublishedCommands, simulate
from llve_tcenet.config import ABOUT

app = paper_app(ABOUT, PublishedCommands)
app.command()(simulate)

if __name__ == "__main__":
    app(prog_name="tcenet")
