"""Names of settings, as the manual's page on blob managers imports them."""
