"""What trains: learners, objectives, optimizers, schedules, callbacks, loggers and plots."""
