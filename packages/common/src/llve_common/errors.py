"""The one way this project reports a mistake that a user can mend."""

import os
from typing import Self


class UserError(Exception):
    """A mistake in what the user gave, said in one message instead of a traceback.

    Args:
        what: what is wrong, as a sentence without a full stop.
        where: the file, key or frame it was found in.
        got: what was found there.
        expected: what would have been right.
        mend: what the user can do about it.
    """

    everywhere = False
    """Whether all processes of a training raise it, so that one of them is enough to say it."""

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        expected: object = None,
        mend: str | None = None,
    ) -> None:
        self.what, self.where, self.got, self.expected, self.mend = what, where, got, expected, mend
        super().__init__(self._message())

    def at(self, where: object) -> Self:
        """The same mistake with the place it was found in, where that was not known before."""
        return self if self.where is not None else self._with(where, self.mend)

    def mended_by(self, mend: str) -> Self:
        """The same mistake with another way out."""
        return self._with(self.where, mend)

    def _with(self, where: object, mend: str | None) -> Self:
        copied = type(self)(self.what, where=where, got=self.got, expected=self.expected, mend=mend)
        copied.everywhere = self.everywhere
        return copied

    def _message(self) -> str:
        what = printable(self.what, lines=True)
        head = what if self.where is None else f"{printable(self.where)}: {what}"
        details = [
            f"{label}: {printable(value, lines=not isinstance(value, os.PathLike))}"
            for label, value in (
                ("got", self.got),
                ("expected", self.expected),
                ("to mend", self.mend),
            )
            if value is not None
        ]
        return "\n  ".join([head, *details])


class ConfigError(UserError):
    """A setting that is unknown, missing or out of range."""


class MediaError(UserError):
    """An image, frame folder or video that cannot be read or written."""


class DataError(UserError):
    """A data set whose layout or content does not fit."""


class CheckpointError(UserError):
    """A weights or checkpoint file that is truncated, foreign or does not fit the network."""


class ExportError(UserError):
    """A network that cannot be written in another form, or whose copy would compute differently."""


def in_one_line(message: object) -> str:
    """A message of several lines in one."""
    return "; ".join(line.strip() for line in printable(message, lines=True).split("\n"))


def printable(value: object, *, lines: bool = False) -> str:
    """Text or a path as it may be shown anywhere: what would command a terminal stands escaped.

    Escaped are control characters, line breaks unless ``lines`` keeps them, marks that change the
    direction of writing, and bytes of names that are not UTF-8.
    """
    return "".join(
        each if each.isprintable() or (lines and each == "\n")
        else each.encode("unicode_escape").decode("ascii")
        for each in str(value)
    )  # fmt: skip
