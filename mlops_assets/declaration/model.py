"""The base of every declaration."""

from pydantic import BaseModel, ConfigDict


class Declared(BaseModel):
    """A frozen piece of a declaration: an unknown key is an error, and nothing changes afterwards.

    What is wrong with the text it is made from says `mlops_assets.declaration.find_problems`.
    """

    # A value may hold a secret, so that Pydantic's own errors must not quote it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
