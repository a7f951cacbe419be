"""The documents of a release, rendered from facts: card, LICENSE, NOTICE, USE_POLICY."""
