"""The command ``sdsd``, which is ``python -m llve_sdsd`` too."""

if __name__ == "__main__":
    from llve_sdsd import main

    main()

from llve_common.commands.data import data_app
from llve_common.commands.paper import paper_app
from llve_sdsd.config import ABOUT

app = paper_app(ABOUT)
app.add_typer(data_app(), name="data")
