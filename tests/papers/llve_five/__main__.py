"""``python -m llve_five`` is the command ``five``."""

from llve_five.cli import app

if __name__ == "__main__":
    app(prog_name="five")
