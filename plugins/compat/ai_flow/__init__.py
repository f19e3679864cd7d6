"""The import names of AIFlow 0.4, re-exported from where they live now."""
