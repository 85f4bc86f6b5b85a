"""Traces of ROIs, (time, ROIs), in chunks of about a megabyte that are read a few megabytes at a time."""

from __future__ import annotations

from airflow_provider_ophys.writing.iterator import ArrayDataChunkIterator

CHUNK_MB = 1.0
# A slab of the whole width is read for each row of chunks; so it is their length in time that memory depends on.
SLAB_BYTES = 8 * 2**20


class TraceDataChunkIterator(ArrayDataChunkIterator):
    """
    Traces that are there already, in memory or memory-mapped.

    By default a chunk is as long in time as memory allows, at 8 MiB for the traces of all ROIs, and as wide as
    then fits ``chunk_mb``: one trace is what is looked at most.

    :param array: (time, ROIs), with ``shape``, ``dtype`` and slicing; no axis of length 0.
    :param options: As for :class:`airflow_provider_ophys.writing.iterator.BulkDataChunkIterator`; ``chunk_mb`` is
        1 by default.
    """

    default_chunk_mb = CHUNK_MB

    def _get_default_chunk_shape(self, chunk_mb: float) -> tuple[int, ...]:
        num_samples, num_rois = self.maxshape
        itemsize = int(self.dtype.itemsize)
        samples = max(1, min(num_samples, SLAB_BYTES // (num_rois * itemsize)))
        rois = max(1, min(num_rois, int(chunk_mb * 1e6) // (samples * itemsize)))
        return (samples, rois)
