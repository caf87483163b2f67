"""What calsync costs beside what people would use instead, in one run on one machine: `scripts/bench`."""
