"""For plugin authors: contract suites, in-memory doubles, a clock that is moved, databases."""
