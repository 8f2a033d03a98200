"""Options of commands, each described once: beside the field of the dataclass that holds its value.

`tuwen_options.fields` has the details.
"""

from tuwen_options.fields import (
    REQUIRED,
    TIMEOUT,
    URL,
    Option,
    OptionField,
    check_values,
    documented,
    option_fields,
)

__all__ = ["REQUIRED", "TIMEOUT", "URL", "Option", "OptionField", "check_values", "documented", "option_fields"]
