"""The blob managers that ship with AIFlow under the import names of AIFlow 0.4."""
