"""The command ``stcd``, which is ``python -m llve_stcd`` too."""

if __name__ == "__main__":
    from llve_stcd import main

    main()

from llve_common.commands.data import data_app
from llve_common.commands.paper import paper_app
from llve_stcd.commands import decompose, match
from llve_stcd.config import ABOUT

app = paper_app(ABOUT)
app.add_typer(data_app(), name="data")
app.command()(match)
app.command()(decompose)
