"""Azure's surface: ARM JSON, YAML files, upload digests. Pure translation to and from contracts."""
