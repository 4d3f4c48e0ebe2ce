"""`stellwerk keys`: made, listed, revoked and rotated."""

from typing import Annotated, Any

import typer

from app.cli.client import GatewayClient, with_gateway
from app.cli.console import examples, local_time, print_json, print_line, print_table, say
from app.cli.support.durations import parse_duration
from app.errors import BadInput

commands = typer.Typer()
keys = typer.Typer(help="Keys: who may do what in which project.", no_args_is_help=True)
commands.add_typer(keys, name="keys")

SHORTEST = 8
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Expires = Annotated[str | None, typer.Option(help="After how long it expires: 90d, 12h, 2w …; else never.")]
Why = Annotated[str | None, typer.Option("--reason", help="Why; it is recorded.")]
KeyName = Annotated[str, typer.Argument(metavar="KEY", help="Its name, if one key in force has it, or its id.")]


@keys.command(
    epilog=examples(
        "stellwerk keys create ci --project web --scope submit,read --expires 90d",
        "stellwerk keys create alice --scope read,operate",
    )
)
@with_gateway
def create(
    gateway: GatewayClient,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who acts with it, as the log will say.")],
    scope: Annotated[str, typer.Option(help="Some of read, submit, operate, audit, admin; separated by commas.")],
    project: Annotated[str | None, typer.Option(help="Whose; else `default`, or that of the key in use.")] = None,
    expires: Expires = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Makes a key and prints it, once."""
    scopes = [part.strip() for part in scope.split(",") if part.strip()]
    body = {"name": name, "scopes": scopes, "project": project, "expires_in": _seconds(expires), "reason": reason}
    _tell(gateway.post("/keys", body), as_json=as_json)


@keys.command("list", epilog=examples("stellwerk keys list", "stellwerk keys list --all"))
@with_gateway
def list_keys(
    gateway: GatewayClient,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are no longer in force.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Lists keys, newest first."""
    found = [key for key in gateway.get("/keys")["keys"] if everything or key["in_force"]]
    if as_json:
        for key in found:
            print_json(key)
        return
    print_table(
        ("key", "name", "project", "scopes", "made", "state"),
        [
            (
                key["key_id"],
                key["name"],
                key["project"],
                ",".join(key["scopes"]),
                f"{local_time(key['created_at'])} by {key['created_by']}",
                _state(key),
            )
            for key in found
        ],
    )


@keys.command(epilog=examples("stellwerk keys revoke ci --reason 'the laptop was lost'"))
@with_gateway
def revoke(gateway: GatewayClient, key: KeyName, reason: Why = None) -> None:
    """Ends a key, by its name also the rotated ones that still hold; they are refused everywhere within ten seconds."""
    for key_id in _find(gateway, key, rotated=True):
        found = gateway.post(f"/keys/{key_id}/revoke", {"reason": reason})
        which = ", which was rotated," if found["successor"] else ""
        print_line(f"{found['name']} of {found['project']}{which} is revoked")


@keys.command(epilog=examples("stellwerk keys rotate ci --valid 24h"))
@with_gateway
def rotate(
    gateway: GatewayClient,
    key: KeyName,
    valid: Annotated[str, typer.Option(help="How long the old one still holds: 24h, 0s …")] = "1d",
    expires: Annotated[
        str | None, typer.Option(help="After how long the new one expires; else as the old one was made for.")
    ] = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Makes a new key of the same name, project and scopes, and prints it, once."""
    body = {"valid_for": _seconds(valid), "expires_in": _seconds(expires), "reason": reason}
    (key_id,) = _find(gateway, key)
    _tell(gateway.post(f"/keys/{key_id}/rotate", body), as_json=as_json)


def _tell(made: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    record = made["record"]
    print_line(made["key"])
    say(f"{record['name']} of {record['project']}: {', '.join(record['scopes'])}; {_state(record)}")
    say("Keep it now: it is not shown again. Programs give it as STELLWERK_TOKEN, or as a bearer token.")


def _state(key: dict[str, Any]) -> str:
    if key["revoked_at"]:
        return f"revoked {local_time(key['revoked_at'])}"
    state = "in force" if key["in_force"] else "expired"
    until = f" until {local_time(key['expires_at'])}" if key["expires_at"] and key["in_force"] else ""
    return f"{state}{until}{', rotated' if key['successor'] else ''}"


def _find(gateway: GatewayClient, text: str, *, rotated: bool = False) -> list[str]:
    """The ids of what is meant: one key, and if asked for those of its name that were rotated. Raises BadInput."""
    known = gateway.get("/keys")["keys"]
    named = [key for key in known if key["in_force"] and key["name"] == text and (rotated or not key["successor"])]
    found = named or [key for key in known if len(text) >= SHORTEST and key["key_id"].startswith(text.lower())]
    if not found:
        raise BadInput(f"there is no key {text!r}; `stellwerk keys list --all` shows the ids")
    if len({key["project"] for key in found} if named else found) > 1:
        ids = ", ".join(f"{key['key_id']} of {key['project']}" for key in found)
        raise BadInput(f"there is more than one key {text!r}; give the id: {ids}")
    return [key["key_id"] for key in found]


def _seconds(text: str | None) -> int | None:
    return None if text is None else int(parse_duration(text).total_seconds())
