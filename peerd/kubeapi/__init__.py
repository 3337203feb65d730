"""Speaking to the cluster's own API server: a seam of two calls, and what is said over it."""
