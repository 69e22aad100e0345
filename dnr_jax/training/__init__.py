"""Training: devices, state, optimiser, step, checkpoints, records, and the loop that joins them."""
