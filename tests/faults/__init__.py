"""Attacks on the real server and the SDK: ``make test-faults`` runs all of them and writes a table of the outcomes.

Each module attacks one part of the service and returns `Outcome` rows. ``tests/system/test_faults.py`` runs the same
attacks with fewer requests.
"""
