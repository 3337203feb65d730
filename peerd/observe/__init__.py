"""What peerd shows of itself: health, metrics, debug endpoints."""
