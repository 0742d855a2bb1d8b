"""What was taken already, in bounded memory: an aid against repetition, never a promise. The mind decides anew."""

from collections import OrderedDict

MOST = 200_000


class Seen:
    """The last names that were taken, at most `most` of them."""

    def __init__(self, most: int = MOST) -> None:
        self._names: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def __contains__(self, name: str) -> bool:
        """Whether the name was taken, as far as it is remembered."""
        return name in self._names

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._names)

    def add(self, name: str) -> None:
        """Remember; the oldest goes when there are too many."""
        self._names[name] = None
        self._names.move_to_end(name)
        if len(self._names) > self._most:
            self._names.popitem(last=False)
