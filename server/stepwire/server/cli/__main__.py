"""Run the command line: `python -m stepwire.server.cli`."""

from stepwire.server.cli import main

main()
