"""``python -m r2convert``: the command line."""

from r2convert.cli import main

main()
