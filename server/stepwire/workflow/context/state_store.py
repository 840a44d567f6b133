"""Keep the 1.x import path of the state: `stepwire.workflow.context.state_store`."""

from stepwire.workflow.state.dict_state import DictState
from stepwire.workflow.state.store import InMemoryStateStore, UnserializableKeyWarning

__all__ = ["DictState", "InMemoryStateStore", "UnserializableKeyWarning"]
