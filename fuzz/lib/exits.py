"""Exit statuses, the same for all commands."""

FINE = 0
SURPRISES = 1  # something is not as it should be: a finding, a difference, a bug that was missed
BAD_INPUT = 2  # or an environment that does not do
OUR_DEFECT = 3  # this project itself failed
STOPPED = 128  # by a signal: plus its number
INTERRUPTED = 130  # by Ctrl-C
