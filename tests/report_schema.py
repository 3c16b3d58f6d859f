"""Reports of real runs are held to the JSON schema that ships."""

import json
from importlib import resources

import jsonschema

SCHEMA = json.loads(resources.files("pytest_llmopt.reporting").joinpath("report.schema.json").read_text("utf-8"))


def valid(content):
    """The content of a report, if it is as the schema says; else an error that names the place."""
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    return content
