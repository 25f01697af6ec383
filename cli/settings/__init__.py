"""Where things are kept: folders, the database, keys, the configuration."""
