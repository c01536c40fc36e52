"""``python -m llve_stcd`` is the command ``stcd``."""

from llve_stcd.cli import app

if __name__ == "__main__":
    app(prog_name="stcd")
