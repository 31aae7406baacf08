"""The command line: options in, :mod:`r2convert.api` in the middle, text out; the only room that prints or exits."""

from r2convert.cli.app import main

__all__ = ["main"]
