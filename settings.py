"""Settings, read once at start from `CITYWATCH_<PART>__<NAME>`. Nonsense is refused with the name and what would be right."""
