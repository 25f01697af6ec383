"""`python -m openai2`: the same as the `openai2` command."""

from openai2.cli import cli

if __name__ == "__main__":
    cli()
