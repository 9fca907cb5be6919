"""Everything that is not domain: bus, settings, clock, logs, database, processes."""
