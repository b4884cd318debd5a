"""csv2kafka: one huge CSV into a Kafka topic, every row exactly once, in file order."""

__version__ = "0.1.0"
