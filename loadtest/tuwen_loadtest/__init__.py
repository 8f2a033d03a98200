"""Load tests with Locust users that call the SDK.

`load_test` runs a whole test. These modules work inside Locust:

    _payloads       makes the pictures and queries to send
    users           send the items, and measure from the scheduled start of each request
    shapes          sets the number of users over time
    listeners       passes the sample of every request (`_samples`) to Locust's master process

These modules work around Locust:

    _target         the server under test
    _session        runs Locust, and records the load of the server and of this machine
    scenarios       inject faults
    _summary, _slo, _verdict, _curve, _phases, _doubts, _answer     evaluate the samples
    _report         writes the report, with `_tables` and `_charts`

Only `users`, `shapes`, `listeners`, `_locust_options` and the locustfile import Locust, which patches the standard
library when it is imported.
"""

__all__: list[str] = []
