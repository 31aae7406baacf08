"""The command line: one short file a command; the only room that prints, prompts or sets an exit code."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_BROKEN_PIPE = 141
_GENERAL_OPTIONS = ("--debug", "--quiet")
EXIT_INTERNAL = 70
"""A mistake in r2convert itself: none of the answers that scripts act on (sysexits.h, EX_SOFTWARE)."""


def main() -> NoReturn:
    """Run the command line and exit with its code: 0 well, 1 a check said no, 2 usage, 3 bad input, 4 no access."""
    # Reading a checkpoint makes tens of thousands of small objects that are needed to the end: looking through them
    # for cycles at the usual rate would take a tenth of a short command's time.
    gc.set_threshold(100_000)
    # A terminated run cleans up after itself like an interrupted one.
    signal.signal(signal.SIGTERM, _terminate)
    _prepare_streams()
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise SystemExit(EXIT_TERMINATED)


def _prepare_streams() -> None:
    """Make sure that printing cannot fail for want of a stream or a letter."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Closed by the caller. The next file opened, an output perhaps, would get its number and its text.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115 - open for as long as the process
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be UTF-8, and a terminal need not know every letter.
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    from r2convert.errors import AccessError, R2ConvertError

    arguments = _general_options_first(arguments)
    debug = "--debug" in arguments[: len(_GENERAL_OPTIONS)]
    try:
        code = _run_command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except SystemExit as stopped:
        if stopped.code != 1:
            raise
        # What click and rich answer when the reader has gone; here it would mean that a check said no.
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except R2ConvertError as error:
        return _report(error, error.exit_code, debug)
    except OSError as error:
        where = None if error.filename is None else str(error.filename)
        problem = AccessError("something could not be read or written", where=where, got=error.strerror or str(error))
        return _report(problem, problem.exit_code, debug)
    except MemoryError:
        problem = AccessError("the memory does not suffice", next_step="close other programs, or use a larger machine")
        return _report(problem, problem.exit_code, debug)
    except Exception as error:
        mistake = R2ConvertError(
            "this is a mistake in r2convert: please report it",
            got=f"{type(error).__name__}: {error}",
            next_step="`r2convert --debug ...` shows where it happened",
        )
        return _report(mistake, EXIT_INTERNAL, debug)
    return code


def _general_options_first(arguments: list[str]) -> list[str]:
    """Bring the options of the whole program to the front: whoever finds that they want one adds it at the end."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found = [option for option in _GENERAL_OPTIONS if option in arguments[:end]]
    return found + [each for each in arguments[:end] if each not in _GENERAL_OPTIONS] + arguments[end:]


def _run_command(arguments: list[str]) -> int:
    import click

    from r2convert.cli.application import application

    try:
        result = application.main(args=arguments, prog_name="r2convert", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return result if isinstance(result, int) else 0


def _report(error: Exception, code: int, debug: bool) -> int:
    """Show an error, with Python's traceback if asked for; results printed before it stay."""
    from r2convert.files import printable

    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()
    if debug:
        import traceback

        traceback.print_exc()
    sys.stderr.write(f"error: {printable(str(error), keep_lines=True)}\n")
    return code


def _discard_stdout() -> None:
    """Send what is still buffered nowhere: it must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
