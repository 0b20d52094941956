"""The parts of the lab book: what it reads, what it asks, how it is drawn. `page.render` puts them together."""
