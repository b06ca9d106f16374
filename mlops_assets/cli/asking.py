"""What a command asks of whoever runs it: who they are, why, and whether to go ahead."""

import sys
from typing import Annotated

import typer

ReasonOption = Annotated[str | None, typer.Option(help="Why; it is kept. Asked for if not given.")]
ActorOption = Annotated[str | None, typer.Option(help="Who; it is kept. Default: the user.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask whether to go ahead.")]


def user() -> str:
    """Return the name of the user."""
    import getpass

    return getpass.getuser()


def reason_given(given: str | None) -> str:
    """Return why something is to be done, asking in a terminal where it was not said."""
    if given is None and sys.stdin.isatty():
        given = typer.prompt("Reason")
    if not (given or "").strip():
        raise typer.BadParameter("say why; it is kept", param_hint="--reason")
    return str(given).strip()


def confirm(question: str, *, yes: bool) -> None:
    """Ask whether to go ahead, and end the command where not."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody can be asked here; give it", param_hint="--yes")
    typer.confirm(question, abort=True)
