"""Getting a release onto the Hub, and rehearsing that before."""
