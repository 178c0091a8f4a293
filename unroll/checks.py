"""Arguments checked against their annotations: whoever takes a value refuses one that is out of range.

    @checked
    def __init__(self, hidden_size: Size = 64, dropout: Share = 0.0, tie: bool = False) -> None: ...

`hidden_size=0` then raises an `ArgumentError`: "hidden_size=0: must be a whole number, 1 or more". Checked are
annotations with a `Rule`, `bool` and `Literal`, and each of them `| None`; other annotations are left alone.
"""

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, ParamSpec, TypeVar, Union, get_args, get_origin

from unroll.errors import ArgumentError

P = ParamSpec("P")
T = TypeVar("T")


class Rule(NamedTuple):
    """Which values an argument can have: a test, and the same in words."""

    holds: Callable[[Any], bool]
    words: str


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def whole(at_least: int) -> Rule:
    def holds(value: Any) -> bool:
        is_whole = isinstance(value, Integral) and not isinstance(value, bool)  # NumPy's too
        return is_whole and at_least <= value < 2**63  # as torch has them

    return Rule(holds, f"a whole number, {at_least} or more")


def between(low: float, high: float) -> Rule:
    return Rule(lambda value: is_number(value) and low <= value < high, f"a number from {low:g} to below {high:g}")


def one_of(*choices: Any) -> Rule:
    names = (str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices)
    return Rule(lambda value: value in choices, f"one of: {', '.join(names)}")


def or_null(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.words}, or null")


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def list_of(rule: Rule, example: str) -> Rule:
    return Rule(
        lambda value: is_list(value) and len(value) > 0 and all(map(rule.holds, value)),
        f"a list, each {rule.words}, as in {example}",
    )


def is_pair(value: Any, rule: Rule) -> bool:
    """Whether a value is a list of two, and the rule holds for each."""
    return is_list(value) and len(value) == 2 and all(map(rule.holds, value))


above_zero = Rule(lambda value: is_number(value) and value > 0, "a number above 0")
above_one = Rule(lambda value: is_number(value) and value > 1, "a number above 1")
zero_or_more = Rule(lambda value: is_number(value) and value >= 0, "a number, 0 or more")
yes_or_no = Rule(lambda value: isinstance(value, bool), "true or false")

file_name = Rule(lambda value: isinstance(value, (str, os.PathLike)), "a file's name; one like 2020 is typed ./2020")

FileName = Annotated[str, file_name]
Size = Annotated[int, whole(1)]
Count = Annotated[int, whole(0)]
Share = Annotated[float, between(0, 1)]
Fraction = Annotated[float, Rule(lambda value: is_number(value) and 0 < value < 1, "a number between 0 and 1")]
Positive = Annotated[float, above_zero]
AboveOne = Annotated[float, above_one]
NonNegative = Annotated[float, zero_or_more]


def rule_of(annotation: Any) -> Rule | None:
    """The rule that an annotation stands for, if it does."""
    if annotation is bool:
        return yes_or_no
    origin = get_origin(annotation)
    if origin is Annotated:
        return next((part for part in annotation.__metadata__ if isinstance(part, Rule)), None)
    if origin is Literal:
        return one_of(*get_args(annotation))
    if origin in (Union, UnionType):
        others = [part for part in get_args(annotation) if part is not NoneType]
        rule = rule_of(others[0]) if len(others) == 1 else None
        return rule and or_null(rule)
    return None


def is_of(value: Any, annotation: Any) -> bool:
    """Whether a value is what an annotation says: a class, a list or dict of such values, or one with a `Rule`.

    Whole numbers are numbers too, tuples are lists; other annotations are left alone.
    """
    if rule := rule_of(annotation):
        return rule.holds(value)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is list:
        return isinstance(value, (list, tuple)) and all(is_of(part, parts[0]) for part in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            is_of(key, parts[0]) and is_of(part, parts[1]) for key, part in value.items()
        )
    # To Python 3.10, Sequence[int] is a type too.
    return annotation is Any or origin is not None or not isinstance(annotation, type) or isinstance(value, annotation)


def check_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Checks arguments of a function against its annotations; names that it does not have are left alone.

    Raises:
        ArgumentError: a value is out of range.
    """
    for name, parameter in inspect.signature(function).parameters.items():
        if name in arguments and (rule := rule_of(parameter.annotation)) and not rule.holds(arguments[name]):
            raise ArgumentError(name, arguments[name], rule.words)


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """A decorator: the function's arguments are checked at each call (see `check_arguments`)."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        check_arguments(function, signature.bind_partial(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    return call
