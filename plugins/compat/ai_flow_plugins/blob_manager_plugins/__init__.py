"""Class names of blob managers, as the manual's page on them writes them."""
