"""``python -m llve_sgz`` is the command ``sgz``."""

from llve_sgz.cli import app

if __name__ == "__main__":
    app(prog_name="sgz")
