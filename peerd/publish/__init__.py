"""What peerd writes down for its own cluster: allocations, conditions, generated objects."""
