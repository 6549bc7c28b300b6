"""The operations centre's page: its own process, fed by the log of alarms and by what sensors say."""
