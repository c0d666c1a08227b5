"""Programs that use Graph's own clients; each runs where its client is installed."""
