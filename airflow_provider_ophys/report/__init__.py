"""A finished NWB file at a glance: one PNG and one self-contained page, from a sampled read within a budget."""
