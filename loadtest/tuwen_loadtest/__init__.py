"""Load tests with Locust users that call the SDK.

Data flows in one direction. Inside Locust, `_payloads` makes the items, `users` send them and measure from the
scheduled start of each request, `shapes` sets the number of users, and `listeners` passes every sample (`_samples`) to
the master. Around Locust, `_target` is the server, and `_session` runs Locust and watches both. `_summary`, `_slo`,
`_verdict`, `_curve` and `_phases` evaluate the samples, and `_report` writes the report. `load_test` calls all of them,
and `scenarios` injects faults.

Only `users`, `shapes`, `listeners`, `_locust_options` and the locustfile import Locust, which patches the standard
library when it is imported.
"""

__all__: list[str] = []
