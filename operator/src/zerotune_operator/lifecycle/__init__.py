"""What becomes of a job: status, conditions, deadlines, root causes. Pure: no clock, no clients."""
