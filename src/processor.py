"""The module that the testing plan names: re-exports and a thin processor over the same pipeline."""
