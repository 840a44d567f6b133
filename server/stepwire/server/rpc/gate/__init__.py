"""Admit calls: who calls, may they, how much.

`gatekeeper` is what gRPC calls. `access` holds the scopes that methods need, `limits` the sizes, `quotas` what each
caller has under way, and `admission` applies all three to a parsed request: of a unary call, of a stream, and of every
frame of a conversation. `call` and `calls` are the calls under way, `ending` turns how one ends into a status.
"""
