"""Sans-IO machines: an event in, actions out; clock passed in, every transition in one table."""
