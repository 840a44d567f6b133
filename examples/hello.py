"""The smallest workflow: one step from the start event to the stop event.

stepwire serve examples/hello.py:Hello=hello
"""

from stepwire.workflow import StartEvent, StopEvent, Workflow, step


class Hello(Workflow):
    """Greet someone by `name`."""

    @step
    async def greet(self, ev: StartEvent) -> StopEvent:
        """Return a greeting as the result."""
        return StopEvent(result=f"Hello, {ev.get('name', 'world')}!")
