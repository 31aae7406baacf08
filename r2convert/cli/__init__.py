"""The command line: one short file a command; the only room that prints, prompts or sets an exit code."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_BROKEN_PIPE = 141


def main() -> NoReturn:
    """Run the command line and exit with its code: 0 well, 1 a check said no, 2 usage, 3 bad input, 4 no access."""
    # A terminated run cleans up after itself like an interrupted one.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has gone: whatever is left in the buffer must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_BROKEN_PIPE
    sys.exit(code)


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)


def _run(arguments: list[str]) -> int:
    import click

    from r2convert.cli.application import application
    from r2convert.errors import R2ConvertError

    try:
        result = application.main(args=arguments, prog_name="r2convert", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except R2ConvertError as error:
        if "--debug" in arguments:
            raise
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return result if isinstance(result, int) else 0
