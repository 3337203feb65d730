"""What one peer may take (limits.py): size, number, rate. Over quota the last good state stays."""

from peerd.limits import PEER_BYTES, PEER_CHANGES, PEER_RESOURCE_BYTES, PEER_RESOURCES, hit


class Ledger:
    """How many resources of one peer are held, by type, and how many bytes they took on the wire."""

    def __init__(self) -> None:
        self._sizes: dict[str, dict[str, int]] = {}
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes of all payloads."""
        return self._bytes

    def __len__(self) -> int:
        return sum(map(len, self._sizes.values()))

    def refusal(self, type_url: str, name: str, size: int) -> str:
        """Why a resource of *size* bytes is over quota; empty, and entered, where it is not."""
        if size > PEER_RESOURCE_BYTES.value:
            hit(PEER_RESOURCE_BYTES)
            return f"over quota: {size} bytes, at most {PEER_RESOURCE_BYTES.value} for one resource"
        sizes = self._sizes.get(type_url, {})
        held = sizes.get(name)
        if held is None and len(sizes) >= PEER_RESOURCES.value:
            hit(PEER_RESOURCES)
            return f"over quota: more than {PEER_RESOURCES.value} resources"
        if self._bytes - (held or 0) + size > PEER_BYTES.value:
            hit(PEER_BYTES)
            return f"over quota: more than {PEER_BYTES.value} bytes in all"
        self.enter(type_url, name, size)
        return ""

    def enter(self, type_url: str, name: str, size: int) -> None:
        """Count a resource, without asking."""
        self.remove(type_url, name)
        self._bytes += size
        self._sizes.setdefault(type_url, {})[name] = size

    def remove(self, type_url: str, name: str) -> None:
        """A resource is gone."""
        self._bytes -= self._sizes.get(type_url, {}).pop(name, 0)


class RateLimit:
    """A bucket of `PEER_CHANGES`: what is taken too fast is waited for. Monotonic seconds."""

    def __init__(self, now: float, rate: float = float(PEER_CHANGES.value)) -> None:
        self._rate = rate
        self._level = rate
        self._at = now

    def take(self, changes: int, now: float) -> float:
        """Take *changes*; returns how long to wait before taking the next ones."""
        self._level = min(self._rate, self._level + (now - self._at) * self._rate) - changes
        self._at = now
        if self._level >= 0:
            return 0.0
        hit(PEER_CHANGES)
        return -self._level / self._rate
