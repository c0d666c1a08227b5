"""The console: read model, API, pages. What needs a broker or a browser says so."""
