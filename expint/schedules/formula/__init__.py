"""Schedules written by their user: formulas (`symbolic`, which imports sympy) and functions of time
(`callables`, which does not).
"""
