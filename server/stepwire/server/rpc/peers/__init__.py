"""What replicas are to each other: calls passed on to the replica that has a run, and commits followed from there.

`hop` signs what goes between replicas, `links` are the connections, `forwarding` passes calls on. It makes them by
`relays`, many on one stream, which `relaying` serves; `relay_frames` are what goes on it. `following` serves
the commits of a run to other replicas in the `frames` of one internal stream, and `subscriptions` brings those of
other replicas to the feeds of this one.
"""
