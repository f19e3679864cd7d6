"""`python -m aiflow_notification_server` is the command `notification`."""

from aiflow_notification_server.cli import main

main()
