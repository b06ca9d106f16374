-- United States federal holidays and how many days each date near one is from it.
with years as (
    select cast(unnest(range(1987, 2101)) as integer) as calendar_year
),

-- The first day of the holiday's month, and how to get from there to the holiday.
rules (holiday, holiday_month, weekday, nth, day_of_month) as (
    values
    ('New Year''s Day', 1, null, null, 1),
    ('Martin Luther King Jr. Day', 1, 1, 3, null),
    ('Washington''s Birthday', 2, 1, 3, null),
    ('Memorial Day', 5, 1, 5, null),
    ('Independence Day', 7, null, null, 4),
    ('Labor Day', 9, 1, 1, null),
    ('Columbus Day', 10, 1, 2, null),
    ('Veterans Day', 11, null, null, 11),
    ('Thanksgiving Day', 11, 4, 4, null),
    ('Christmas Day', 12, null, null, 25)
),

firsts as (
    select
        rules.*,
        make_date(years.calendar_year, rules.holiday_month, 1) as first_day
    from years
    cross join rules
),

nths as (
    select
        *,
        first_day
        + cast((weekday - isodow(first_day) + 7) % 7 + 7 * (nth - 1) as integer) as nth_day
    from firsts
),

holidays as (
    select
        holiday,
        case
            when day_of_month is not null then first_day + (day_of_month - 1)
            -- A fifth Monday that is not in the month stands for the last one.
            when month(nth_day) != holiday_month then nth_day - 7
            else nth_day
        end as holiday_date
    from nths
),

offsets as (
    select unnest(range(-7, 8)) as offset_days
),

near as (
    select
        holidays.holiday,
        offsets.offset_days as days_from_holiday,
        holidays.holiday_date + cast(offsets.offset_days as integer) as calendar_date
    from holidays
    cross join offsets
)

select
    calendar_date,
    holiday,
    cast(days_from_holiday as smallint) as days_from_holiday
from near
qualify
    row_number() over (
        partition by calendar_date
        order by abs(days_from_holiday), days_from_holiday
    ) = 1
