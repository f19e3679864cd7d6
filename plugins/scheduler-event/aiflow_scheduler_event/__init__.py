"""The event-driven scheduler: a pure engine, its store, and the loop that feeds it.

Read in this order: `state` (what is remembered), `commands` (what can be asked for), `rules` (who
listens to which event); what is decided, each layer on the one before: `step`, `tasks`,
`executions`, `administration`, `engine`; then `store` (what is written), `loop`, `reporter`,
`timers`, `conditions`, `scheduler`.
"""

aiflow_api = ">=1,<2"
