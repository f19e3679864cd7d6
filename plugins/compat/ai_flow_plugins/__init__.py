"""Class names of plugins, as the manual's page on blob managers writes them."""
