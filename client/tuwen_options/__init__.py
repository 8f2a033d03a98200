"""The options of commands. Each option is described once, beside the dataclass field that holds its value.

`tuwen_options.fields` shows how to write such a dataclass.
"""

from tuwen_options.fields import (
    MODEL,
    REQUIRED,
    TIMEOUT,
    URL,
    Option,
    OptionField,
    check_values,
    documented,
    option_fields,
)

__all__ = [
    "MODEL",
    "REQUIRED",
    "TIMEOUT",
    "URL",
    "Option",
    "OptionField",
    "check_values",
    "documented",
    "option_fields",
]
