"""Long commands: a progress bar on a terminal, and a count for who interrupts them."""

from __future__ import annotations

import contextlib
import sys
import typing as t

import click

T = t.TypeVar("T")

#: The exit code of a command that was interrupted (Ctrl-C), as shells have it.
INTERRUPTED = 130


@contextlib.contextmanager
def aborting(count: t.Callable[[], int], done: str) -> t.Iterator[None]:
    """If the command is interrupted, say after how many, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Aborted after {count():,} {done}.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


@contextlib.contextmanager
def progress(
    steps: t.Iterable[T],
    label: str,
    done: str,
    *,
    length: int | None = None,
    weigh: t.Callable[[T], int] = lambda step: 1,
) -> t.Iterator[t.Iterable[T]]:
    """These steps, counted, with a progress bar if there is a terminal to show it on.

    :param label: what the command does: "Removing".
    :param done: what was done to those that were counted: "removed".
    :param length: how many steps there are, if that is known.
    :param weigh: how much a step counts.
    """
    count = 0

    def counted() -> t.Iterator[T]:
        nonlocal count
        for step in steps:
            count += weigh(step)
            yield step

    with (
        aborting(lambda: count, done),
        _bar(counted(), label, lambda: f"{count:,} {done}", length) as shown,
    ):
        yield shown


def _bar(
    steps: t.Iterator[T], label: str, state: t.Callable[[], str], length: int | None
) -> t.ContextManager[t.Iterable[T]]:
    if not sys.stderr.isatty():
        return contextlib.nullcontext(steps)
    known = length is not None
    return click.progressbar(
        steps, label=label, length=length, show_eta=known, item_show_func=lambda _: state(), file=sys.stderr
    )
