"""One worker process: its app, put together from the settings.

uvicorn calls `create_app` in every process that it starts.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mlops_assets.features.registry import FeatureRegistry
from mlops_assets.serving.app import PUBLIC, ModelServer, make_app
from mlops_assets.serving.families import Families
from mlops_assets.serving.inference_log import InferenceLog, WhenFull
from mlops_assets.serving.lookups import FeatureLookups
from mlops_assets.serving.metrics import ServerMetrics
from mlops_assets.serving.predicting import Predictor
from mlops_assets.serving.reporting import reporter
from mlops_assets.serving.routing import Router
from mlops_assets.serving.security.authentication import Authenticator
from mlops_assets.serving.security.connections import bounded_protocol
from mlops_assets.serving.security.guard import App, Guard
from mlops_assets.serving.security.redaction import guard_logs
from mlops_assets.serving.shadow import Shadow
from mlops_assets.settings import Settings, current_settings
from mlops_assets.transform.project import DbtProject

THREADS = 2
"""Threads of a worker for long calls of models, as many for looking features up, and as many for
explanations: one may be long, another still gets through."""


class WorkerProtocol(bounded_protocol(current_settings().serve_limits)):  # type: ignore[misc] # a class made by a function
    """How a worker speaks HTTP; a class of this module, so that a new process finds it by name."""


def create_app() -> App:
    """Put a worker's app together from the settings of this process."""
    return build_app(current_settings())


def build_app(settings: Settings, views: Callable[[], FeatureRegistry] | None = None) -> App:
    """Put a worker's app together.

    Parameters
    ----------
    settings
        Of the deployment.
    views
        Reads the feature registry, when the first request by key comes. Default: from the manifest
        of the dbt project.

    Raises
    ------
    InferenceLogError
        When the inference log cannot be written.
    StateFileError
        When the file of tokens is wrong.
    """
    guard_logs()
    home = settings.home / "serving"
    log = InferenceLog(
        settings.serve_log_folder,
        sync_seconds=settings.serve_log_sync_seconds,
        segment_seconds=settings.serve_log_segment_seconds,
        when_full=WhenFull(settings.serve_when_log_full),
    )
    report = reporter(log)
    metrics = ServerMetrics()
    models = ThreadPoolExecutor(THREADS, thread_name_prefix="model")
    finding = ThreadPoolExecutor(THREADS, thread_name_prefix="lookup")
    explaining = ThreadPoolExecutor(THREADS, thread_name_prefix="explanation")
    shadow_executor = ThreadPoolExecutor(1, thread_name_prefix="shadow")
    # The cores that are left when every worker has one; on Ray the number of replicas varies.
    threads = max(1, settings.threads // settings.serve_workers)
    families = Families(home, log, models, metrics.called, threads)
    router = Router(home, seed=settings.seed, report=report)
    shadow = Shadow(shadow_executor, metrics.dropped, lambda: server.busy)
    limits = settings.serve_limits

    def declared() -> FeatureRegistry:
        return FeatureRegistry.from_manifest(DbtProject(settings.dbt_project_dir).ensure_manifest())

    predictor = Predictor(
        families=families,
        limits=limits,
        lookup=FeatureLookups(settings, views or declared),
        traffic=router,
        mirror=shadow.put,
        finding=finding,
        explaining=explaining,
        predicted=metrics.predicted,
    )
    server = ModelServer(predictor, metrics, log, lambda: shadow.waiting_rows)
    authenticator = Authenticator(
        home / "tokens.json",
        host=settings.serve_host,
        report=report,
    )

    def shut() -> None:
        shadow_executor.shutdown()
        router.close()
        log.close()

    return make_app(
        server,
        lambda app: Guard(app, limits, authenticator, public=PUBLIC),
        (models, finding, explaining),
        mirror=shadow.run,
        shut=shut,
    )
