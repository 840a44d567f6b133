"""Run the command line: `python -m stepwire.cli`."""

from stepwire.cli import main

main()
