"""Events on their way through steps: deliveries, their queues, the attempts at them, what collects them."""
