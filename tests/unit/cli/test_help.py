"""`--help` of every command explains, with an example that names real commands and options."""

import re

import click
import pytest
from click.testing import CliRunner

from peerd.cli.main import main


def commands(group, path=()):
    """Every command and group below *group*, by its words."""
    yield path, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            yield from commands(group.get_command(context, name), (*path, name))


COMMANDS = dict(commands(main))


def examples(text):
    """Each call of peerd in a help text: the command's words, and the options it is given."""
    joined = re.sub(r"\\\n\s*", "", text).replace("Example: ", "\n")
    for call in re.findall(r"^ *(peerd .*)$", joined, re.MULTILINE):
        for part in call.partition("  #")[0].split("&&"):
            words = part.split()[1:]
            path = max((words[:count] for count in range(3) if tuple(words[:count]) in COMMANDS), key=len)
            yield tuple(path), {word.partition("=")[0] for word in words if word.startswith("--")}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_explains_with_an_example(path):
    """The command itself is called in it, or one below it, with options that exist."""
    result = CliRunner().invoke(main, [*path, "--help"], terminal_width=200)
    assert result.exit_code == 0
    found = list(examples(result.output))
    assert [called for called, _ in found if called[: len(path)] == path]
    for called, options in found:
        known = {name for parameter in COMMANDS[called].params for name in parameter.opts}
        assert options <= known
