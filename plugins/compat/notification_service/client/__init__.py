"""Clients of the notification server under the import names of AIFlow 0.4."""
