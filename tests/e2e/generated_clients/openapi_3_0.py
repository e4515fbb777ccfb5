"""Converts the OpenAPI document to version 3.0, in the form that progenitor reads.

Usage: openapi_3_0.py INPUT OUTPUT

OpenAPI 3.0 has no null type, constants, or most conditions of JSON Schema. Conditions are left out: the ledger checks
them. An operation of progenitor has one type of request and one of success, so this also leaves out batches of events, and
answers in other formats. Of a rollback request it keeps the answer to a request, and leaves out that to a `dry_run`.
"""

import json
import sys

# Conditions that OpenAPI 3.0 lacks, patterns with classes that not every engine knows, and notes to the reader.
LEFT_OUT = {
    "$comment", "dependentRequired", "dependentSchemas", "else", "examples", "if", "not", "pattern", "propertyNames",
    "then",
}
# The status whose answer an operation keeps, where it has several.
KEPT_STATUS = "201"


def converted(schema):
    """Returns a schema of OpenAPI 3.0."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    schema = {keyword: value for keyword, value in schema.items() if keyword not in LEFT_OUT}
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if isinstance(schema.get("type"), list):
        [schema["type"]] = [name for name in schema["type"] if name != "null"]
        schema["nullable"] = True
    if "properties" in schema:
        schema["properties"] = {name: converted(part) for name, part in schema["properties"].items()}
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            schema[keyword] = converted(schema[keyword])
    for keyword in ("oneOf", "anyOf", "allOf"):
        variants = schema.pop(keyword, [])
        parts = [converted(part) for part in variants if part != {"type": "null"}]
        if len(parts) < len(variants):
            schema["nullable"] = True
        # Without its conditions, a variant may say nothing.
        if parts and all(parts):
            schema["allOf" if len(parts) == 1 else keyword] = parts
    return schema


def reduce_content(holder):
    """Keeps one media type of a request or an answer: JSON, if it is one of them."""
    content = holder["content"]
    kept = "application/json" if "application/json" in content else next(iter(content))
    # Problems, too, are JSON: progenitor makes no type for another name of it.
    name = "application/json" if kept.endswith("+json") else kept
    holder["content"] = {name: {"schema": converted(content[kept].get("schema", {}))}}


def reduce_operation(operation):
    for parameter in operation.get("parameters", []):
        parameter["schema"] = converted(parameter["schema"])
    if operation["operationId"] == "postEvents":
        operation["requestBody"]["content"] = {
            "application/json": {"schema": {"$ref": "#/components/schemas/RecordableEvent"}}
        }
    if "requestBody" in operation:
        reduce_content(operation["requestBody"])
    responses = operation["responses"]
    for response in responses.values():
        if "content" in response:
            reduce_content(response)
    successes = {status: response.get("content") for status, response in responses.items() if status[0] == "2"}
    if len({json.dumps(content) for content in successes.values()}) > 1:
        operation["responses"] = {
            status: response
            for status, response in responses.items()
            if status == KEPT_STATUS or status not in successes
        }


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    document["openapi"] = "3.0.3"
    document["info"]["license"].pop("identifier", None)
    schemas = document["components"]["schemas"]
    document["components"]["schemas"] = {name: converted(schema) for name, schema in schemas.items()}
    for item in document["paths"].values():
        for method in ("get", "post"):
            if method in item:
                reduce_operation(item[method])
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)


main()
