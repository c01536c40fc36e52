"""The command ``sci``, which is ``python -m llve_sci`` too."""

if __name__ == "__main__":
    from llve_sci import main

    main()

from llve_common.commands.page import page_command
from llve_common.commands.paper import paper_app
from llve_sci.config import ABOUT

app = paper_app(ABOUT)
app.command("page")(page_command(ABOUT))
