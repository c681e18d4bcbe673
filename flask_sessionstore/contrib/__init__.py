"""Metrics and traces of sessions, for libraries that applications use: each module needs the package it is named after.

Nothing else of the package imports these modules.
"""
