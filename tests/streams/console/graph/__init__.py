"""Graph's calls: the language of filters, each call, and real clients of Graph."""
