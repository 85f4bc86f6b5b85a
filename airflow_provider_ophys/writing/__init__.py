"""The data plane: arrays and bytes, from a source to a chunked dataset, within a memory budget."""
