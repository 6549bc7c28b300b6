"""The command line's commands, one module a family; the only folder that knows all the others."""
