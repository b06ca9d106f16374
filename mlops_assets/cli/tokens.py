"""``mlops tokens``: create, list, rotate, revoke."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlops_assets.serving.security import IssuedToken, Scope, Token, TokenStore

app = typer.Typer(help="Who may call the model server.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Who uses it; predictions are logged under it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_NEVER = "never"
_NONE = "none"


def _store() -> "TokenStore":
    from mlops_assets.serving.security import TokenStore
    from mlops_assets.settings import current_settings

    return TokenStore(current_settings().home / "serving" / "tokens.json")


@app.command()
def create(
    name: NameArgument,
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it is for: predict, explain or admin; give it several times."),
    ] = None,
    expires: Annotated[
        str, typer.Option(help="How long it is valid, such as P30D, or never.")
    ] = "P90D",
    as_json: JsonOption = False,
) -> None:
    """Make a token; its secret is shown once. Without --scope it is for predictions alone."""
    lifetime = None if expires == _NEVER else _duration(expires, "--expires")
    issued = _store().create(name, _scopes(scope or ["predict"]), lifetime)
    _print_issued(issued, as_json=as_json)


@app.command("list")
def list_tokens(*, as_json: JsonOption = False) -> None:
    """List the tokens: what they are for, when they expire. No secret is shown; none is kept."""
    from mlops_assets.cli.output import print_json, print_table

    store = _store()
    tokens = [_facts(token) for token in store.list()]
    if as_json:
        print_json(tokens)
        return
    rows = [
        {
            "token": facts["name"],
            "for": ", ".join(facts["scopes"]),
            "ends in": f"…{facts['last_four']}",
            "created": facts["created_at"],
            "expires": facts["expires_at"],
            "state": facts["state"],
        }
        for facts in tokens
    ]
    every = "every call is refused; `mlops tokens create NAME` makes one"
    nobody = "none; a server on loopback answers everybody, and no other one starts"
    print_table("Tokens", rows, empty=every if store.path.exists() else nobody)


@app.command()
def rotate(
    name: NameArgument,
    *,
    overlap: Annotated[
        str, typer.Option(help="How long the old secret stays valid, such as PT1H, or none.")
    ] = "P1D",
    expires: Annotated[
        str | None,
        typer.Option(help="How long the new one is valid. Default: as long as the old one was."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give a token a new secret, shown once; running servers take it within a second."""
    kept = timedelta(0) if overlap == _NONE else _duration(overlap, "--overlap")
    lifetime = None if expires is None else _duration(expires, "--expires")
    issued = _store().rotate(name, overlap=kept, expires=lifetime)
    _print_issued(issued, as_json=as_json)


@app.command()
def revoke(
    name: NameArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to go ahead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a token invalid; running servers refuse it within a second."""
    from mlops_assets.cli.output import print_json, print_text

    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here; give it", param_hint="--yes")
        typer.confirm(f"Refuse everybody who uses token {name}?", abort=True)
    store = _store()
    token = store.revoke(name)
    if as_json:
        print_json(_facts(token))
        return
    print_text(f"{name} is revoked")
    if not store.list():
        print_text(
            f"No token is left: every call is refused until one is made, or {store.path} is "
            "removed and the server started again on loopback"
        )


def _facts(token: "Token") -> dict[str, Any]:
    newest, now = token.newest, datetime.now(UTC)
    older = [secret for secret in token.secrets[:-1] if not secret.expired(now)]
    state = "valid"
    if newest.expired(now):
        state = "expired"
    elif older:
        state = f"valid; the old secret (…{older[0].last_four}) until {older[0].expires_at:%F %R}Z"
    return {
        "name": token.name,
        "scopes": [str(scope) for scope in token.scopes],
        "last_four": newest.last_four,
        "created_at": newest.created_at,
        "expires_at": newest.expires_at,
        "state": state,
    }


def _print_issued(issued: "IssuedToken", *, as_json: bool) -> None:
    """Print the secret alone on standard output, so that a script can take it."""
    from mlops_assets.cli.output import print_json

    if as_json:
        print_json({**_facts(issued.token), "secret": issued.secret})
        return
    newest = issued.token.newest
    until = f"until {newest.expires_at:%F %R}Z" if newest.expires_at else "for ever"
    print(
        f"Token {issued.token.name} for {', '.join(issued.token.scopes)}, valid {until}. Its "
        "secret is shown this once; callers send it as 'Authorization: Bearer SECRET':",
        file=sys.stderr,
    )
    print(issued.secret)


def _scopes(texts: Sequence[str]) -> "list[Scope]":
    from mlops_assets.declaration import did_you_mean
    from mlops_assets.serving.security import Scope

    known = [str(scope) for scope in Scope]
    for text in texts:
        if text not in known:
            hint = did_you_mean(text, known)
            raise typer.BadParameter(
                f"{text!r} is no scope{hint}; there are {', '.join(known)}", param_hint="--scope"
            )
    return [Scope(text) for text in texts]


def _duration(text: str, option: str) -> timedelta:
    from mlops_assets.features.duration import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}", param_hint=option) from error
