"""Load tests that tell an operator the truth: Locust users over the SDK.

Data flows one way. Inside Locust: `_payloads` makes what is sent, `users` send it and measure from the moment when a
request was due, `shapes` says how many send, and `listeners` hands every single answer (`_samples`) to the master.
Around it: `_site` is the server, `_session` runs Locust and watches both, `_summary`, `_slo`, `_verdict`, `_curve` and
`_thirds` say what the samples come to, `_report` shows it, and `load_test` does all of it. `scenarios` makes trouble
meanwhile.

Only `users`, `shapes`, `listeners`, `_locust_options` and the locustfile import Locust, which patches the standard
library when it is imported.
"""

__all__: list[str] = []
