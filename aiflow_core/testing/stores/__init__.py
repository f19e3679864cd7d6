"""Real servers of stores on this machine, for tests and measurements of blob managers."""
