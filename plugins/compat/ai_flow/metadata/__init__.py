"""What `ai_flow.ops` returns, under the import names of AIFlow 0.4."""
