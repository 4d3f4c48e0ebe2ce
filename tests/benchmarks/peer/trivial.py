"""As small as a typer program gets."""

import typer


def main(name: str) -> None:
    """Greets."""
    typer.echo(f"hello {name}")


typer.run(main)
