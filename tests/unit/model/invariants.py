"""What must hold after every rule."""

from __future__ import annotations

from hypothesis.stateful import invariant
from tests.unit.model.driven import Driven, log_of, pair
from tests.unit.model.flow import WORKERS
from tests.unit.model.records import in_order

from stepwire.workflow.broker.broker import Broker


class Checked(Driven):
    """The broker is what the model is, and nothing is lost or done twice."""

    @invariant()
    def holds(self) -> None:
        self.conserved()
        self.the_same()
        self.within_workers()
        self.waits_open()
        self.log_contiguous()

    def conserved(self) -> None:
        """Each accepted delivery, and each collected event, is in exactly one place."""
        broker, model = self.broker, self.model
        accepted = set(range(1, broker.work.delivery_ids + 1))
        assert broker.deliveries.keys() == (accepted - model.through) | model.left.keys(), (
            "a delivery is lost, or done twice"
        )
        queued = [delivery.id for queue in broker.queues.values() for delivery in queue]
        assert len(queued) == len(set(queued)), "a delivery is queued twice"
        expected = {work.id for work in model.works.values() if work.status in ("queued", "ready")}
        assert set(queued) == expected
        held = [item.number for delivery in broker.deliveries.values() for item in delivery.collected()]
        free = [item.number for item in broker.buffers]
        assert len(held + free) == len(set(held + free)), "a collected event is in two places"
        assert sorted(held + free) == sorted(broker.buffers.numbers())
        assert not model.consumed & set(held + free), "a consumed event is back"
        assert in_order(model.buffers) == buffered(broker), "buffered events are in another order"

    def the_same(self) -> None:
        """The broker is what the model is."""
        broker, model = self.broker, self.model
        assert broker.sequence == model.sequence
        assert broker.work.delivery_ids == model.delivery_ids
        assert broker.work.numbers == model.numbers
        assert broker.asked == model.asked
        assert (broker.limit.seconds, broker.limit.remaining, broker.limit.due) == (
            model.timeout,
            model.remaining,
            model.due,
        )
        assert (broker.outcome.status if broker.outcome else None) == model.outcome
        assert broker.store.values() == model.state
        for delivery in broker.deliveries.values():
            work = model.works.get(delivery.id) or model.left[delivery.id]
            assert (delivery.step, pair(delivery.event), delivery.sequence) == (work.step, work.event, work.sequence)
            assert delivery.status == work.status
            assert (delivery.attempt, delivery.failures, delivery.lost) == (work.attempt, work.failures, work.lost)
            assert (delivery.first_started, delivery.due) == (work.first_started, work.due)
            assert (delivery.execution is not None) == work.live
            held = sorted(item.number for item in delivery.collected())
            assert held == sorted(item.number for item in work.held())
        assert {each.delivery.id for each in broker.executions} == {
            work.id for work in model.works.values() if work.live
        }

    def within_workers(self) -> None:
        for name, queue in self.broker.queues.items():
            running = sum(
                delivery.step == name and delivery.execution is not None and delivery.status == "running"
                for delivery in self.broker.deliveries.values()
            )
            assert queue.running == running <= WORKERS[name]
        assert self.broker.work.parked == sum(work.status == "parked" for work in self.model.works.values())

    def waits_open(self) -> None:
        found = [
            (
                waiter.number,
                waiter.id,
                waiter.event_type.__name__ if waiter.event_type else None,
                waiter.requirements.get("n"),
                pair(waiter.prompt) if waiter.prompt else None,
                waiter.due,
                waiter.delivery.id if waiter.delivery else None,
                waiter.index,
                waiter.notify is not None,
            )
            for waiter in self.broker.waits
        ]
        assert found == [
            (w.number, w.id, w.type, w.n, w.prompt, w.due, w.work, w.index, w.token is not None)
            for w in self.model.waits.values()
        ]

    def log_contiguous(self) -> None:
        log = self.log + [log_of(entry) for entry in self.journal.entries]
        assert [entry[0] for entry in log] == list(range(1, len(log) + 1)), "the log has a gap"
        assert log == self.model.log


def buffered(broker: Broker) -> dict[tuple[str, str], list[int]]:
    found: dict[tuple[str, str], list[int]] = {}
    for item in broker.buffers:
        found.setdefault((item.buffer_id, item.type.__name__), []).append(item.number)
    return found
