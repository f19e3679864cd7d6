"""Chaos: real servers under load, with something being done to them, and an oracle.

    python -m tests.chaos kills --count 1000 --seed 7

Read in this order: `workflows` (what runs), `load` (who asks for it, and notes what he was told),
`history` (all that was noted, by whom), `oracle` (what must hold of it), `deployment` (the
servers), `campaign` (load, trouble, quiet, verdict); then what is done to them, a module each:
`kills`, `pauses`, `partitions`, `databases`; and what is measured: `recovery`, `soak`.
"""

import os

# What gRPC says of servers that are away is what was to be expected. It looks when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
