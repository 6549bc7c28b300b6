"""When to tell someone: the pure core, and the rules of each domain as YAML with their tests."""
