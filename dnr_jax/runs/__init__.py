"""What the folder of a run holds and how it is used: names, checkpoints, lock, devices, the step that scores clips."""
