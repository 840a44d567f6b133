"""DictState: state without a declared shape."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

__all__ = ["DictState"]


class DictState(BaseModel):
    """Hold any keys, reachable as items and as attributes.

    A key with the name of a method is reachable as an item only. `bool(state)` is always True.
    """

    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)

    def __init__(self, /, **params: Any) -> None:
        data = params.pop("_data", None)
        self.__pydantic_validator__.validate_python(params, self_instance=self)
        if data is not None:
            self._data.update(data)

    # Without this mark pydantic would validate by calling __init__, which is slower.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @property
    def _data(self) -> dict[str, Any]:
        """Return the keys and values; the dict is live."""
        extra = self.__pydantic_extra__
        return {} if extra is None else extra

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

    def __getitem__(self, key: str) -> Any:
        return self._data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._data[key]

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # 1.x: keys, not pairs
        return iter(self._data)

    def __bool__(self) -> bool:
        return True

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default`."""
        return self._data.get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the keys."""
        return self._data.keys()

    def values(self) -> ValuesView[Any]:
        """Return the values."""
        return self._data.values()

    def items(self) -> ItemsView[str, Any]:
        """Return keys and values as pairs."""
        return self._data.items()

    def update(self, *args: Mapping[str, Any], **params: Any) -> None:
        """Set several keys."""
        self._data.update(*args, **params)

    def to_dict(self) -> dict[str, Any]:
        """Return a shallow copy of the keys and values."""
        return dict(self._data)


# Saved contexts name this module: the public one, where 1.x has it too.
DictState.__module__ = "stepwire.workflow.state.store"
