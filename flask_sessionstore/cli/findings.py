"""What ``flask sessions check`` finds: a sentence, and how bad it is."""

from __future__ import annotations

import typing as t

Severity = t.Literal["note", "warning", "error"]

#: From the lightest to the worst. An error: sessions do not work, are lost, or can be forged. A warning: something is
#: risky. A note: something that this command cannot see has to be as it should.
SEVERITIES: tuple[Severity, ...] = ("note", "warning", "error")


class Finding(t.NamedTuple):
    """Something that is wrong, or risky."""

    severity: Severity
    #: What, and what to do about it.
    text: str

    def is_at_least(self, severity: Severity) -> bool:
        """Whether it is as bad as this, or worse."""
        return SEVERITIES.index(self.severity) >= SEVERITIES.index(severity)


def note_that(text: str) -> Finding:
    """A note."""
    return Finding("note", text)


def warning_that(text: str) -> Finding:
    """A warning."""
    return Finding("warning", text)


def error_that(text: str) -> Finding:
    """An error."""
    return Finding("error", text)
