"""What licenses say, what a policy decides about a lineage, and what a release then owes."""
