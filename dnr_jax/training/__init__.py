"""Training: optimisers, state, step, records, and the loop that joins them."""
