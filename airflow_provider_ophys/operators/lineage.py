"""What OpenLineage is told of a conversion, and the link to its output in Airflow's web UI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

# Of local files, in OpenLineage's naming (https://openlineage.io/docs/spec/naming).
NAMESPACE = "file"


class NWBFileLink(BaseOperatorLink):
    """A button beside the task that leads to the file that it wrote."""

    name = "NWB file"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 -- Airflow calls it so
        """Return the file's URL, from the task's result in XCom; empty if there is none."""
        result = XCom.get_value(ti_key=ti_key, key="return_value")
        return Path(result["nwbfile_path"]).absolute().as_uri() if result else ""


def conversion_lineage(sources: Sequence[str], result: dict[str, Any]) -> Any:
    """
    Describe a conversion to OpenLineage: the recording's files, and the NWB file with what it holds.

    :param sources: Paths of the recording.
    :param result: What the task returns.
    :returns: ``airflow.providers.openlineage.extractors.OperatorLineage``.
    """
    from airflow.providers.common.compat.openlineage.facet import (
        Dataset,
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.facet_v2 import (
        data_quality_assertions_dataset,
        datasource_dataset,
        storage_dataset,
    )

    path = Path(result["nwbfile_path"]).absolute()
    passed = data_quality_assertions_dataset.Assertion(assertion="NWB schema", success=True)
    facets: dict[str, Any] = {
        "dataSource": datasource_dataset.DatasourceDatasetFacet(name=NAMESPACE, uri=path.as_uri()),
        "storage": storage_dataset.StorageDatasetFacet(
            storageLayer=NAMESPACE, fileFormat=f"nwb/{result['backend']}"
        ),
    }
    if result["validation"] == "valid":
        facets["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=[passed]
        )
    statistics = OutputStatisticsOutputDatasetFacet(
        rowCount=result.get("num_samples") or result.get("num_rois"), size=result["size_bytes"]
    )
    return OperatorLineage(
        inputs=[Dataset(namespace=NAMESPACE, name=str(Path(source).absolute())) for source in sources],
        outputs=[
            OutputDataset(
                namespace=NAMESPACE,
                name=str(path),
                facets=facets,
                outputFacets={"outputStatistics": statistics},
            )
        ],
    )
