"""The operators for Spark under the import names of AIFlow 0.4."""
