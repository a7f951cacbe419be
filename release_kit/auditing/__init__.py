"""The audit: rules, findings, the checks that make them, and the report bound to bytes."""
