"""How times go on: the usual step of a series, by the clock or by the calendar."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import islice, repeat
from typing import Any

import numpy

from unroll.errors import UserError

DAY = 24 * 3600 * 10**6  # microseconds
LONGER = 1.5  # a step that takes so many times the usual one has a gap in it
EVERY_DAY, WORKING_WEEKS = "1111111", ("1111100", "1111001")
LAST = 31  # day of a month
LAST_YEAR = 9990  # that times go on from
MOST = 6  # days of a month
USUAL = 0.75  # of all steps
MOVED = 4  # days, by holidays


@dataclass(frozen=True)
class Step:
    """The usual time from one step to the next.

    Attributes:
        size: in microseconds or the units of numbers; or in months, days of the calendar, or working days.
        kind: "time", "months", "days" or "workdays".
        days: which of a month's days in `week`, from 1 on; the last where there are fewer; of "months". With several,
            such as the first and the 15th, a step goes from one of them to the next.
        week: whether Monday, …, Sunday count: working days of "workdays"; of "months", those that are in `days`.
    """

    size: Any
    kind: str = "time"
    days: tuple[int, ...] = ()
    week: str = EVERY_DAY

    @property
    def season(self) -> int | None:
        """The number of steps in a day, a week of days, or a year of months; None for other steps, and of numbers."""
        if self.kind == "time":
            return DAY // self.size if DAY // self.size > 1 and DAY % self.size == 0 else None
        if self.kind == "months":
            year = 12 * len(self.days)
            return year // self.size if year // self.size > 1 and year % self.size == 0 else None
        return {("days", 1): 7, ("workdays", 1): self.week.count("1")}.get((self.kind, self.size))

    def following(self, wall: datetime) -> datetime:
        """The time on the clock after one, for steps of the calendar."""
        if self.kind == "months":
            place = places_in_months(numpy.array([wall.date()], "datetime64[D]"), self.days, self.week)[0] + self.size
            month, part = divmod(int(place), len(self.days))
            day = days_of_months(numpy.datetime64(month, "M"), self.days[part], self.week)
            return datetime.combine(day.astype(object), wall.timetz())
        if self.kind == "days":
            return wall + timedelta(days=int(self.size))
        days = numpy.busday_offset(numpy.datetime64(wall.date()), self.size, roll="forward", weekmask=self.week)
        return datetime.combine(days.astype(object), wall.timetz())


@dataclass(frozen=True)
class Clock:
    """The time of the last step of a series, and how it goes on.

    Attributes:
        at, wall, zone, write: of the last step, as in `Times`.
        step: None if there is one step only.
    """

    at: Any
    wall: numpy.datetime64 | None
    zone: tzinfo | None
    write: Callable[[Any], str]
    step: Step | None

    def following(self, steps: int) -> Iterator[str]:
        """The times of the steps that follow, as the file writes them; empty if that is not known."""
        return islice(map(self.write, self._following()), steps) if self.step else islice(repeat(""), steps)

    def walls(self, steps: int) -> numpy.ndarray:
        """The same as clocks show it, datetime64[us]."""
        times = [time.replace(tzinfo=None) for time in islice(self._following(), steps)]
        return numpy.array(times, dtype="datetime64[us]")

    def _following(self) -> Iterator[Any]:
        step, at = self.step, self.at
        assert step is not None
        wall = None if self.wall is None else to_datetime(self.wall, self.zone)
        while True:
            if wall is not None and wall.year > LAST_YEAR:
                raise UserError(f"times after {self.write(wall)} can't be written")
            if wall is None:
                at = at + step.size
                yield at
                continue
            if step.kind == "time":
                at = at + step.size
                naive = datetime(1970, 1, 1) + timedelta(microseconds=int(at))
                wall = naive if self.zone is None else naive.replace(tzinfo=timezone.utc).astimezone(self.zone)
            else:
                wall = step.following(wall)
            yield wall


def to_datetime(wall: numpy.datetime64, zone: tzinfo | None) -> datetime:
    time: datetime = wall.astype("datetime64[us]").astype(object)
    return time.replace(tzinfo=zone)


def steps_of(wall: numpy.ndarray | None, at: numpy.ndarray) -> tuple[Step, numpy.ndarray]:
    """The usual step of times that rise, and how long each step is in its terms, `[steps - 1]`.

    A month is a month, a day of the calendar a day, and a file that has no weekends goes from Friday to Monday.
    """
    apart = numpy.diff(at)
    usual = middle(apart)
    if wall is None:
        size = exact(apart, usual)
        return Step(size), apart / size
    by_time = Step(usual.item()), apart / usual
    days = wall.astype("datetime64[D]")
    if not (wall - days == wall[0] - days[0]).all():  # another time of the day
        return by_time
    if of_month := monthly(days):
        apart = numpy.diff(places_in_months(days, *of_month))
        usual = int(middle(apart))
        return Step(usual, "months", *of_month), apart / usual
    apart = numpy.diff(days.astype("int64"))
    usual = int(middle(apart))
    by_days = (Step(usual, "days"), apart / usual) if usual > 0 else by_time
    if week := working_week(days):
        counted = numpy.busday_count(days[:-1], days[1:], weekmask=week)
        return Step(1, "workdays", week=week), counted.astype(float)
    return by_days


def exact(apart: numpy.ndarray, usual: Any) -> Any:
    """The usual difference of numbers; of whole ones that were rounded, so that they differ by 1, the mean."""
    near = apart[apart <= LONGER * usual]
    rounded = apart.dtype.kind == "i" and near.max() - near.min() == 1
    return near.mean().item() if rounded else usual.item()


def monthly(days: numpy.ndarray) -> tuple[tuple[int, ...], str] | None:
    """Which of its month's days each is, as `days` and `week` of a `Step`; None if they are not of months.

    A day of the month, or the last; a working day, such as the last, which holidays may move; a weekday, such as the
    third Friday; or a few days, such as the first and the 15th. Where there is one in nearly every month, on no such
    day, it is the middle one.
    """
    months = days.astype("datetime64[M]")
    apart, in_months = numpy.diff(days), numpy.diff(months.astype("int64"))
    of_month = (days - months.astype("datetime64[D]")).astype("int64") + 1
    if not (in_months > 0).all():
        of_month[days + 1 == (months + 1).astype("datetime64[D]")] = LAST
        several, counts = numpy.unique(of_month, return_counts=True)
        if len(several) > MOST or counts.min() < 2 or share_of_middle(apart) == 1:
            return None
        found = tuple(several.tolist()), EVERY_DAY
        return found if share_of_middle(numpy.diff(places_in_months(days, *found))) >= USUAL else None
    one_weekday = numpy.roll(list("1000000"), days[0].astype("int64") + 3)

    def one(weeks: Sequence[str], share: float) -> tuple[tuple[int], str] | None:
        for week in weeks:
            counted = numpy.busday_count(months.astype("datetime64[D]"), days + 1, weekmask=week)
            for day in (LAST, int(counted.max()), int(numpy.median(counted))):
                off = (days_of_months(months, day, week) - days).astype("int64")
                if (off == 0).mean() >= share and numpy.abs(off).max() <= MOVED:
                    return (day,), week
        return None

    if (exact := one([EVERY_DAY], 1)) or share_of_middle(apart) == 1:
        return exact
    if (exact := one([*WORKING_WEEKS, "".join(one_weekday)], 1)) or share_of_middle(apart) >= USUAL:
        return exact
    is_regular = len(apart) > 3 and share_of_middle(in_months) >= USUAL
    return one(WORKING_WEEKS, USUAL) or (((int(numpy.median(of_month)),), EVERY_DAY) if is_regular else None)


def share_of_middle(apart: numpy.ndarray) -> float:
    return float((apart == middle(apart)).mean())


def days_of_months(months: Any, day: int, week: str) -> Any:
    """A day of each month among those of the week that count, datetime64[D]; the last where there are fewer."""
    wanted = numpy.busday_offset(months.astype("datetime64[D]"), day - 1, roll="forward", weekmask=week)
    last = numpy.busday_offset((months + 1).astype("datetime64[D]"), -1, roll="forward", weekmask=week)
    return numpy.minimum(wanted, last)


def places_in_months(days: numpy.ndarray, chosen: Sequence[int], week: str) -> numpy.ndarray:
    """Each day's month, or where several days of a month are chosen, its number among all of them."""
    months = days.astype("datetime64[M]")
    off = [numpy.abs((days_of_months(months, day, week) - days).astype("int64")) for day in chosen]
    return months.astype("int64") * len(chosen) + numpy.argmin(off, 0)


def middle(apart: numpy.ndarray) -> Any:
    """The difference that is nearest to the median: one that there is."""
    return apart[int(numpy.abs(apart - numpy.median(apart)).argmin())]


def working_week(days: numpy.ndarray) -> str | None:
    """The days of the week that there are, Monday first, if nearly every step is from one to the next of some."""
    counts = numpy.bincount((days.astype("int64") + 3) % 7, minlength=7)
    if counts.all() or counts[counts > 0].min() < 2 or len(days) < 8 or (counts > 0).sum() == 1:
        return None
    week = "".join("1" if count else "0" for count in counts)
    counted = numpy.busday_count(days[:-1], days[1:], weekmask=week)
    return week if (counted == 1).mean() >= USUAL else None


def shown(step: Step, of_numbers: Callable[[Any], str] | None) -> str:
    """A step in words.

    Args:
        step: the step.
        of_numbers: writes numbers; None for times.
    """
    if step.kind == "time":
        return of_numbers(step.size) if of_numbers else str(timedelta(microseconds=step.size))
    names = {"months": "month", "days": "day", "workdays": "working day"}
    if len(step.days) > 1:
        return f"from one to the next of {len(step.days)} days of a month"
    if step.week.count("1") < 5 and step.kind == "workdays":
        return f"from one to the next of {step.week.count('1')} days of a week"
    return f"{step.size} {names[step.kind]}{'s' if step.size > 1 else ''}"
