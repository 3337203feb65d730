"""Frozen records that flow between the rooms: pure values, no IO, nothing of ours imported."""
