"""Any history of puts, deletions, compactions and crashes leaves a state that was once whole."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.state.table import Table

NAMES = st.sampled_from(["a", "b", "c", "ü"])
CHANGES = st.lists(st.tuples(NAMES, st.one_of(st.none(), st.binary(max_size=40))), max_size=12)


@given(CHANGES, st.integers(min_value=0))
@settings(max_examples=150)
def test_a_crash_at_any_byte_leaves_a_state_that_was_once_whole(changes, cut):
    """And the state is the last one whose record is wholly before the cut."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        table = Table(path)
        present: dict[str, bytes] = {}
        states = [(0, {})]
        for name, value in changes:
            if value is not None:
                table.put(name, value, replaces=name in present)
                present[name] = value
            elif present.pop(name, None) is not None:
                table.delete(name)
            table.flush(sync=False)
            states.append((path.stat().st_size, dict(present)))
        table.close()
        whole = path.read_bytes()
        kept = cut % (len(whole) + 1)
        path.write_bytes(whole[:kept])
        survivor = Table(path)
        assert survivor.load() == [state for size, state in states if size <= kept][-1]
        survivor.put("after", b"crash", replaces=False)
        survivor.flush()
        survivor.close()
        again = Table(path)
        assert again.load()["after"] == b"crash"
        again.close()
