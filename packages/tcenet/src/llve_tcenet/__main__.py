"""The command ``tcenet``, which is ``python -m llve_tcenet`` too."""

if __name__ == "__main__":
    from llve_tcenet import main

    main()

from llve_common.commands.paper import paper_app
from llve_tcenet.commands import PublishedCommands, simulate
from llve_tcenet.config import ABOUT

app = paper_app(ABOUT, PublishedCommands)
app.command()(simulate)
