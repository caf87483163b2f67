"""An immutable mapping whose next version shares with it all but what changed.

Keys lie on shelves by their CRC-32, the same on every machine. A change copies the shelves it touches and leaves the others
as they are, so it costs what changes and not what there is; and a shelf that is the very same object holds the very same
content, by which whatever was made of it once can be known to be right still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar
from zlib import crc32

SHELVES = 256


V = TypeVar("V")


class Shelves(Mapping[str, V], Generic[V]):
    """The mapping; equal content in it is found on equal shelves, whatever came and went before."""

    __slots__ = ("_length", "shelves")

    def __init__(self) -> None:
        self.shelves: tuple[Mapping[str, V], ...] = ({},) * SHELVES
        self._length = 0

    def __getitem__(self, key: str) -> V:
        return self.shelves[crc32(key.encode("utf-8", "surrogatepass")) % SHELVES][key]

    def __iter__(self) -> Iterator[str]:
        return (key for shelf in self.shelves for key in shelf)

    def __len__(self) -> int:
        return self._length

    def after(self, removed: Iterable[str], changed: Mapping[str, V]) -> Shelves[V]:
        """The mapping without what is `removed` and with what is `changed`; removing what is not there is nothing."""
        fresh: dict[int, dict[str, V]] = {}

        def shelf(key: str) -> dict[str, V]:
            number = crc32(key.encode("utf-8", "surrogatepass")) % SHELVES
            return fresh.setdefault(number, dict(self.shelves[number]) if number not in fresh else {})

        for key in removed:
            shelf(key).pop(key, None)
        for key, value in changed.items():
            shelf(key)[key] = value
        found: Shelves[V] = Shelves()
        found.shelves = tuple(fresh.get(number, shelf) for number, shelf in enumerate(self.shelves))
        found._length = self._length + sum(len(new) - len(self.shelves[number]) for number, new in fresh.items())
        return found
