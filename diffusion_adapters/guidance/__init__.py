"""Wrappers that steer a model: classifier-free and classifier guidance, constraints, and runs that
begin at an image.
"""
