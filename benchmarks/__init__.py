"""Measure calsync beside the barest code that gives the same answer, in one run on one machine: `scripts/bench`."""
