"""The event-driven scheduler: a pure engine, its store, and the loop that feeds it.

Read in this order: `state` (what is remembered), `commands` (what can be asked for), `rules` (who
listens to which event); what is decided, each layer on the one before: `step`, `tasks`,
`executions`, `administration`, `engine`; then `store` and `records` (what is written), `loop`,
`reporter`, `timers`, `conditions`, `scheduler`. Why something was decided, or not, is told by
`close_up` (how things stand), `reasons`, `explaining` and `tracing`. `simulation` is the engine
without all that.
"""

aiflow_api = ">=1,<2"
