"""Kafka plumbing for everyone: clients, headers, topics' administration, the embedded broker. No city in it."""
