"""Write one movie by many tasks, on as many workers as there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import TaskGroup, TriggerRule, XComArg

from airflow_provider_ophys.models.plan import FilledShare, ImagingPlan, ParallelImagingConversion, Share
from airflow_provider_ophys.operators.conversion import NWBOutputOperator
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.lineage import NWBFileLink
from airflow_provider_ophys.retries import decides_on_retries
from airflow_provider_ophys.session_notes import leaves_notes
from airflow_provider_ophys.settings import max_map_length

if TYPE_CHECKING:
    from airflow.sdk import Context

PLAN = "plan"


def write_imaging_in_parallel(
    *, group_id: str, num_tasks: int | str | None = None, **options: Any
) -> ImagingTaskGroup:
    """
    Write one movie to a Zarr store by many tasks, which may run on any workers that see the same storage.

    Makes a task group of ``plan``, which allocates the store beside its path; ``fill``, mapped over the shares of
    the movie's shards; and ``publish``, which checks that all is there and valid and moves it to its path. A task
    that is tried again fills only what is missing. The result is what :class:`WriteImagingOperator` would have
    written, and what it would have returned is the group's ``output``. Cannot be used in a mapped task group.

    :param group_id: Of the task group.
    :param num_tasks: How many tasks fill; default: one for each 16 GB (uncompressed), at most 100. Never more than
        there are shards one after the other, nor than Airflow's ``[core] max_map_length``.
    :param options: Those of :class:`WriteImagingOperator`, with ``backend="zarr"``; Airflow's own, such as
        ``retries``, ``pool`` and ``executor_config``, are those of all three tasks, ``outlets`` those of the last.
        ``memory_limit`` and ``threads`` are for each task.
    """
    outlets = options.pop("outlets", None)
    airflows = {name: value for name, value in options.items() if name not in WriteImagingOperator.template_fields}
    group = ImagingTaskGroup(group_id)
    with group:
        plan = PlanImagingOperator(task_id="plan", num_tasks=num_tasks, **options)
        told = XComArg(plan, key=PLAN)
        filled = FillShardsOperator.partial(
            task_id="fill",
            plan=told,
            map_index_template="shards {{ task.share['first'] }} to {{ task.share['stop'] - 1 }}",
            **airflows,
        ).expand(share=plan.output)
        PublishImagingOperator(task_id="publish", plan=told, filled=filled.output, outlets=outlets, **airflows)
    return group


class ImagingTaskGroup(TaskGroup):
    """The tasks that write one movie together."""

    @property
    def output(self) -> XComArg:
        """What the last of them returns: the same as :class:`WriteImagingOperator`."""
        (publish,) = (child for child in self.children.values() if isinstance(child, PublishImagingOperator))
        return XComArg(publish)


class PlanImagingOperator(WriteImagingOperator):
    """
    Allocates the store of a movie and shares out the work among tasks; see :func:`write_imaging_in_parallel`.

    Returns the shares; the plan is in XCom under the key ``plan``.

    :param num_tasks: How many shares; default: one for each 16 GB (uncompressed), at most 100.
    """

    operator_extra_links = ()
    conversion_class = ParallelImagingConversion
    template_fields: Sequence[str] = tuple(ParallelImagingConversion.defaults())

    def __init__(self, *, num_tasks: int | str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_tasks = num_tasks

    @decides_on_retries
    @leaves_notes("plan")
    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Allocate, and return the shares."""
        from airflow_provider_ophys.conversion.many_workers import plan_imaging

        most = max_map_length()
        with self._stoppable() as stop:
            conversion, environment = self._read_options(stop)
            plan = plan_imaging(conversion, environment).with_shares(most)
        context["ti"].xcom_push(key=PLAN, value=plan.to_json())
        if plan.reused:
            self.log.info("Nothing to write: %s is there already.", conversion.nwbfile_path)
        else:
            self.log.info("%d tasks are to fill %s.", len(plan.shares), plan.part)
        return [share.to_json() for share in plan.shares]


class FillShardsOperator(NWBOutputOperator):
    """
    Fills one share of a movie's shards, those that are missing; see :func:`write_imaging_in_parallel`.

    :param plan: From :class:`PlanImagingOperator`.
    :param share: One of the shares that it returned.
    """

    named_after = ("plan",)
    template_fields: Sequence[str] = ("plan", "share")
    template_fields_renderers: ClassVar[dict[str, str]] = {"plan": "json", "share": "json"}

    def __init__(self, *, plan: Any, share: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.share = share

    @decides_on_retries
    @leaves_notes("fill")
    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - Airflow's signature
        """Fill, and return what was done."""
        from airflow_provider_ophys.conversion.many_workers import fill_share

        plan, share = ImagingPlan.model_validate(self.plan), Share.model_validate(self.share)
        with self._stoppable() as stop:
            return fill_share(plan, share, self._environment(stop)).to_json()


class PublishImagingOperator(NWBOutputOperator):
    """
    Checks and publishes what the tasks of a plan have filled; see :func:`write_imaging_in_parallel`.

    Returns what :class:`WriteImagingOperator` returns, and puts it on the event of the outlet asset.

    :param plan: From :class:`PlanImagingOperator`.
    :param filled: What the tasks that filled have returned.
    """

    operator_extra_links = (NWBFileLink(),)
    named_after = ("plan",)
    template_fields: Sequence[str] = ("plan", "filled")
    template_fields_renderers: ClassVar[dict[str, str]] = {"plan": "json", "filled": "json"}

    def __init__(
        self,
        *,
        plan: Any,
        filled: Any = None,
        # Nothing to fill, because the output is there already, is no failure.
        trigger_rule: str = TriggerRule.NONE_FAILED,
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.plan = plan
        self.filled = filled

    @decides_on_retries
    @leaves_notes("convert")
    def execute(self, context: Context) -> dict[str, Any]:
        """Check and publish, and return what was written, as plain JSON."""
        from airflow_provider_ophys.conversion.many_workers import publish_imaging

        # Asked for as a slice, Airflow fetches them at once and not one by one.
        filled = self.filled[:] if self.filled else []
        plan = ImagingPlan.model_validate(self.plan)
        with self._stoppable() as stop:
            environment = self._environment(stop)
            converted = publish_imaging(plan, [FilledShare.model_validate(one) for one in filled], environment)
            return self._finish(context, plan.conversion, converted, environment)
