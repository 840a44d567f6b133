"""What both clients do, without any I/O: the drivers in `_aio` and `_sync` make the calls.

| module          | what it owns                                                                        |
| --------------- | ----------------------------------------------------------------------------------- |
| `call`          | `Call`, `Operation`, `Pages`: what a driver is asked to do                          |
| `server_calls`  | the calls that concern no single run                                                |
| `run_calls`     | the calls on one run                                                                |
| `state_calls`   | the calls on the state of one run, and the transactions made of them                |
| `polls`         | long waits made of short calls: `result`, `wait_for_event`                          |
| `stream`        | `StreamEvents` and its reconnections, seen as one stream                            |
| `converse`      | `Converse` and its reconnections, seen as one conversation                          |
| `places`        | where the waits of one handle stand in the log                                      |
| `cursor`        | where a stream stands in the log, and the check that nothing is missing             |
| `reconnect`     | which errors are a lost connection, and when to connect again                       |
| `reachability`  | why a server cannot be reached                                                      |
| `heartbeats`    | how long a stream may be silent before its connection counts as lost                |
| `retry`         | when a unary call is repeated                                                       |
| `backoff`       | how long to wait before another attempt                                             |
| `status`        | from gRPC's errors to those of `stepwire.client.errors`                             |
| `answers`       | from messages to `stepwire.client.models`                                           |
| `event_types`   | from log entries to events, from events to messages                                 |
| `payload`       | JSON values and `Payload`                                                           |
| `times`         | times and time spans and their messages                                             |
| `channel`       | address, TLS, token, the options of gRPC's channel                                  |
| `side_table`    | values kept beside objects that cannot carry them                                   |
| `progress`      | a line for each event of a run, for people                                          |
| `tracing`       | the caller's trace in the metadata of a call                                        |
"""
