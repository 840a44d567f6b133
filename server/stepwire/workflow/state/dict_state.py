"""The state of a workflow that names no state type: any keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from stepwire.workflow.dynamic_fields import DynamicFields

__all__ = ["DictState"]


class DictState(DynamicFields, BaseModel):  # type: ignore[misc]  # both iterate, over other things
    """Hold any keys, as items and as attributes.

    A key that has the name of a method can be reached as an item only.
    """

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    def __init__(self, /, **params: Any) -> None:
        data = params.pop("_data", None)
        self.__pydantic_validator__.validate_python(params, self_instance=self)
        if data is not None:
            self._data.update(data)

    # Without this mark pydantic would validate by calling __init__, which is slower.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...
        def __delattr__(self, name: str) -> None: ...

    else:

        def __setattr__(self, name, value):
            # Straight to the data, so that a key may have the name of a method.
            if name.startswith("_") or name in type(self).model_fields:
                super().__setattr__(name, value)
            else:
                self._data[name] = value

        def __delattr__(self, name):
            if name in self._data:
                del self._data[name]
            else:
                super().__delattr__(name)

    def update(self, *args: Mapping[str, Any], **params: Any) -> None:
        """Set several keys."""
        self._data.update(*args, **params)


# Saved contexts name the public module, as 1.x does.
DictState.__module__ = "stepwire.workflow.state.store"
