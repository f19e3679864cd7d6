"""The operator for Flink under the import names of AIFlow 0.4."""
