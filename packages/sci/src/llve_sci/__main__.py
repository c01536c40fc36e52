"""``python -m llve_sci`` is the command ``sci``."""

from llve_sci.cli import app

if __name__ == "__main__":
    app(prog_name="sci")
