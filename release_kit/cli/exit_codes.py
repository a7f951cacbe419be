"""What the process says when it ends; never the same code for "found" and "could not check"."""

PASSED = 0
REFUSED = 1
"""Findings block the release or ask for a review, or the answer is no."""
UNUSABLE = 2
"""The command line, release.yaml or the policy cannot be used: nothing was judged."""
UNFINISHED = 3
"""The network, a missing part or a bug stopped the work: nothing was decided."""
INTERRUPTED = 130
"""The user pressed Ctrl-C."""
