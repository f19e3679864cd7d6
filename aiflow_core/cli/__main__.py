"""`python -m aiflow_core.cli` is the command `aiflow`."""

from aiflow_core.cli import main

main()
