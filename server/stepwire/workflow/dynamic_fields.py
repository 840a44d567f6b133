"""What Event and DictState share: their undeclared fields, read and written like a dict."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

__all__ = ["DynamicFields"]


class DynamicFields:
    """Give a pydantic model the interface of a dict over its undeclared fields.

    The fields are pydantic's extra fields, so that construction, validation and JSON stay in pydantic's compiled core.
    `bool(model)` is always True, also without any field.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # pydantic would take the annotation for one of the author's
        __pydantic_extra__: dict[str, Any] | None

    @property
    def _data(self) -> dict[str, Any]:
        """Return the dynamic fields; the dict is live."""
        extra = self.__pydantic_extra__
        return {} if extra is None else extra

    @_data.setter
    def _data(self, value: Mapping[str, Any]) -> None:
        extra = self._data
        fresh = dict(value)
        extra.clear()
        extra.update(fresh)

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

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)  # 1.x: keys, where pydantic has pairs

    def __bool__(self) -> bool:
        return True

    def get(self, key: str, default: Any = None) -> Any:
        """Return the dynamic field `key`, or `default`."""
        return self._data.get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the names of the dynamic fields."""
        return self._data.keys()

    def values(self) -> ValuesView[Any]:
        """Return the values of the dynamic fields."""
        return self._data.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the dynamic fields as pairs."""
        return self._data.items()

    def to_dict(self) -> dict[str, Any]:
        """Return a shallow copy of the dynamic fields."""
        return dict(self._data)
