"""From a folder to all that is known of its session: recordings, metadata, and where each fact stands."""
