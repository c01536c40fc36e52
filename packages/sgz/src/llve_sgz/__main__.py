"""The command ``sgz``, which is ``python -m llve_sgz`` too."""

if __name__ == "__main__":
    from llve_sgz import main

    main()

from llve_common.commands.page import page_command
from llve_common.commands.paper import paper_app
from llve_sgz.commands import video
from llve_sgz.config import ABOUT

app = paper_app(ABOUT)
app.command("page")(page_command(ABOUT))
app.command()(video)
