"""What events inherit of the delivery that they come from."""

from __future__ import annotations

from stepwire.workflow.broker.deliveries.delivery import Delivery, Lineage

__all__ = ["caught_lineage", "sent_lineage"]


def sent_lineage(delivery: Delivery) -> Lineage | None:
    """Return what an event inherits that a step sends: it belongs to no stream."""
    lineage = delivery.lineage
    return Lineage((), lineage.recoveries) if lineage is not None and lineage.recoveries else None


def caught_lineage(delivery: Delivery, catcher: str) -> Lineage:
    """Return the lineage of what a failure becomes that a step catches."""
    lineage = delivery.lineage or Lineage((), {})
    return Lineage(lineage.scope, {**lineage.recoveries, catcher: lineage.recoveries.get(catcher, 0) + 1})
