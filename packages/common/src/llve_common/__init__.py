"""The shared core of llve: everything that is not particular to one paper."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes longer to import than all that stands here
if TYPE_CHECKING:
    from collections.abc import Callable

__version__ = "0.1.0"


def program(package: str, name: str | None = None) -> Callable[[], None]:
    """What imports a package's command and runs it, as the first thing that a process does.

    Until the command takes care of Ctrl-C, it ends the process as SIGTERM does: nothing is begun,
    and libraries that are imported pass over what interrupts them, or fail in any way.
    """

    def main() -> None:
        signal = import_module("_signal")  # likewise
        # What is ignored, as in a shell's background job, stays so.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        import_module(f"{package}.__main__").app(prog_name=name)

    return main


main = program("llve_common")
