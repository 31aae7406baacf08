"""The command line: options in, :mod:`r2convert.api` in the middle, text out; the only room that prints or exits."""

import sys
from typing import NoReturn

EXIT_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        from r2convert.cli.app import run  # imported here, so that Ctrl-C works during the import, too

        code = run()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        code = EXIT_INTERRUPTED
    sys.exit(code)
