"""What tests and benchmarks share: an oracle that reads topics, and child processes that cannot outlive them."""
