"""``python -m llve_sdsd`` is the command ``sdsd``."""

from llve_sdsd.cli import app

if __name__ == "__main__":
    app(prog_name="sdsd")
