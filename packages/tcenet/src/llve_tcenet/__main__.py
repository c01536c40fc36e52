"""``python -m llve_tcenet`` is the command ``tcenet``."""

from llve_tcenet.cli import app

if __name__ == "__main__":
    app(prog_name="tcenet")
