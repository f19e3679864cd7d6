"""What plugins implement, under the import names of the manual's page on blob managers."""
