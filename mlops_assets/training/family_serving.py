"""The declaration of how a model family is served: what a user writes under `serving:`.

Here is only what is declared. Which version serves, and what somebody has switched meanwhile, is
said where that is kept (`mlops_assets.registry`, `mlops_assets.serving.routing`).
"""

from typing import Literal

from pydantic import Field

from mlops_assets.declaration import Declared


class CanaryDeclaration(Declared):
    """Which part of the requests the challenger answers, and what stops it.

    A request counts as failed if the model raises, gives an answer that is none, or takes longer
    than `max_latency_ms`.

    Attributes
    ----------
    share
        Of the entities; each always gets its answers from the same model.
    max_failure_increase
        How much more often the challenger may fail than the champion: 0.01 is one request in a
        hundred.
    max_loss_increase
        How much greater its mean loss on realised outcomes may be, losses lying between 0 and 1.
        Default: losses do not stop it.
    max_latency_ms
        Longest a request may take before it counts as failed, in milliseconds. Default: no limit.
    alpha
        Probability with which a challenger is stopped although it is within these limits, however
        often that is looked at.
    minimum_requests
        Requests that the challenger answers before it can be stopped.
    """

    share: float = Field(default=0.05, gt=0, le=0.5)
    max_failure_increase: float = Field(default=0.01, ge=0, lt=1)
    max_loss_increase: float | None = Field(default=None, ge=0, lt=1)
    max_latency_ms: float | None = Field(default=None, gt=0)
    alpha: float = Field(default=0.05, gt=0, le=0.5)
    minimum_requests: int = Field(default=30, ge=1)


class ServingDeclaration(Declared):
    """How the family's models are served.

    Attributes
    ----------
    unseen_categories
        What a category gets that was not in training: `warn` answers with a warning, `refuse` does
        not answer.
    out_of_range
        The same for a number beyond those of training, and for a missing value where none was.
    stale_features
        What a looked-up feature gets that is older than its view's ttl: `warn` answers without it
        and with a warning, `refuse` does not answer.
    explain
        Whether a caller may ask for an explanation of its prediction.
    shadow
        Whether the challenger is asked everything too, without its answers being given.
    canary
        Which part of the requests the challenger answers. Default: none.
    """

    unseen_categories: Literal["warn", "refuse"] = "warn"
    out_of_range: Literal["warn", "refuse"] = "warn"
    stale_features: Literal["warn", "refuse"] = "warn"
    explain: bool = True
    shadow: bool = False
    canary: CanaryDeclaration | None = None
