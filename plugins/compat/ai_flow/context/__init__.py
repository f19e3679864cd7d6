"""The project's settings under the import names of the manual's page on blob managers."""
