"""Contracts of the tables that these tests declare."""

from datetime import date

from pandera.ibis import Field

from mlops_assets.quality import Contract


class Orders(Contract):
    """One row an order."""

    order_id: int = Field(description="Key of the order.")
    order_date: date = Field(description="Day on which it was placed.")
    amount: float = Field(ge=0, description="What was paid.")

    class Config:
        unique = ("order_id",)
