"""What lasts from step to step: state and averages, and each name's count of steps."""
