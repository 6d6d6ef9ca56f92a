"""`pot-lab completion`: completion of commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "pot-lab"
COMPLETION_VARIABLE = "_POT_LAB_COMPLETE"
"""A shell sets it when it runs this program to complete a line."""


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options and their choices in SHELL: bash, zsh or fish.

    \b
    bash:  eval "$(pot-lab completion bash)"           # in ~/.bashrc
    zsh:   eval "$(pot-lab completion zsh)"            # in ~/.zshrc
    fish:  pot-lab completion fish | source            # in ~/.config/fish/config.fish
    """
    script = get_completion_class(shell)
    if script is None:
        raise click.BadParameter(f"no completion is known for {shell}")
    click.echo(script(context.find_root().command, {}, PROGRAM, COMPLETION_VARIABLE).source())
