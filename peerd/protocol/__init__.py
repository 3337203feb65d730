"""Sans-IO machines: an event in, actions out; the clock is passed in and every transition stands in one table."""
